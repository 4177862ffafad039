module.exports = {
  apps: [
    {
      name: 'boltlink-api',
      script: './dist/index.js',
      instances: 'max', // one per core
      exec_mode: 'cluster',
      max_memory_restart: '500M',
      kill_timeout: 5000,
      listen_timeout: 10000,
      interpreter_args: '--max_old_space_size=1024',
      health: '/health', // percore: each new worker must answer this before it gets traffic
      env: { NODE_ENV: 'production' },
    },
    {
      name: 'boltlink-aggregator',
      script: './dist/worker/aggregator.worker.js',
      instances: 1,
      exec_mode: 'fork',
      max_memory_restart: '300M',
      env: { NODE_ENV: 'production' },
    },
    {
      name: 'boltlink-worker',
      script: './dist/worker/jobs.worker.js',
      instances: 1,
      exec_mode: 'fork',
      max_memory_restart: '300M',
      env: { NODE_ENV: 'production' },
    },
  ],
};
