// Each request costs 4 ms of CPU, or COST_MICROSECONDS, measured and not waited.
const http = require('http');
const COST_MICROSECONDS = Number(process.env.COST_MICROSECONDS ?? 4000);

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
