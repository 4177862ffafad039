// Answers with its pid.
require('http').createServer((request, response) => response.end(String(process.pid))).listen(process.env.PORT);
