module.exports = { apps: { name: 'udp', script: './programs/datagrams.js', env: { PORT: process.env.FIRST } } };
