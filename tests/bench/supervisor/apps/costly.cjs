// Each request costs 1 ms of CPU, measured and not waited.
const http = require('http');
const COST_MICROSECONDS = 1000;

function spend() {
  const start = process.cpuUsage();
  for (;;) {
    const used = process.cpuUsage(start);
    if (used.user + used.system >= COST_MICROSECONDS) return;
  }
}

http
  .createServer((request, response) => {
    spend();
    response.end('hello');
  })
  .listen(process.env.PORT);
