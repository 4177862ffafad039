module.exports = {
  apps: [
    {
      name: 'orders',
      script: './dist/main.js',
      exec_mode: 'cluster',
      instances: 'max', // one per core
      health: '/health', // each new worker must answer this before it gets requests
      kill_timeout: 10000, // enableShutdownHooks ends what is under way
      env: { PORT: 3001, NODE_ENV: 'production' },
    },
    {
      name: 'orders-worker',
      script: './dist/worker.js',
      exec_mode: 'fork',
      instances: 1, // runs once on each host
      wait_ready: true, // it says process.send('ready')
      kill_timeout: 60000, // a job that runs gets so long to end
      env: { NODE_ENV: 'production' },
    },
  ],
};
