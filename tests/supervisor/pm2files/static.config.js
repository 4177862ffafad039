module.exports = {
  apps: [{ name: 'site', script: 'serve', env: { PM2_SERVE_PATH: 'public', PM2_SERVE_PORT: process.env.FIRST } }],
};
