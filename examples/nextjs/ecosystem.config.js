module.exports = {
  apps: [
    {
      name: 'webshop',
      script: './.next/standalone/server.js',
      exec_mode: 'cluster',
      instances: 'max', // one per core
      health: '/api/health', // each new worker must answer this before it gets requests
      kill_timeout: 10000, // answers that are under way, such as a streamed page, may end
      env: { PORT: 3000, NODE_ENV: 'production', HOSTNAME: '127.0.0.1' }, // NGINX alone comes in
    },
  ],
};
