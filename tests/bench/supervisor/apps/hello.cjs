// Answers at once. Says `ready` and closes in order on SIGINT: the best that PM2's documentation advises.
const http = require('http');
const server = http.createServer((request, response) => response.end('hello'));
server.listen(process.env.PORT, () => process.send?.('ready'));
process.on('SIGINT', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
