// Writes LINES lines of 100 bytes once somebody asks, and answers when all are written.
const http = require('http');
const BATCH = 1000;

async function write(lines) {
  for (let written = 0; written < lines; written += BATCH) {
    for (let i = 0; i < BATCH; i++) console.log(`${String(written + i).padStart(8)} ${'x'.repeat(90)}`);
    await new Promise(setImmediate);
  }
}

http
  .createServer(async (request, response) => {
    if (request.url !== '/write') return response.end('hello');
    await write(Number(process.env.LINES));
    response.end('written');
  })
  .listen(process.env.PORT);
