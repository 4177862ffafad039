const server = require('http').createServer((_, response) => response.end('ready'));
server.listen(process.env.PORT, () => setTimeout(() => process.send('ready'), 200));
process.on('SIGINT', () => server.close(() => process.exit(0)));
