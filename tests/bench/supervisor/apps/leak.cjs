// Serves, and leaks 50 MB a second, in steps of 5 MB.
const http = require('http');
const STEP_BYTES = 5 * 1024 * 1024;
const kept = [];
http.createServer((request, response) => response.end('hello')).listen(process.env.PORT, () => {
  setInterval(() => kept.push(Buffer.alloc(STEP_BYTES, 1)), 100);
});
