require('http').createServer((_, response) => response.end('hello')).listen(process.env.PORT);
