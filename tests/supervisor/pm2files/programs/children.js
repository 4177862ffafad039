const child = require('child_process').spawn('sleep', ['1000']);
process.on('SIGINT', () => { child.kill(); process.exit(0); });
setInterval(() => {}, 1e6);
