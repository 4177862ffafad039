const shell = { name: 'shell', script: 'programs/tick.sh', err_file: '/dev/null' };
module.exports = {
  apps: [
    {
      name: 'server',
      script: 'programs/answer.js',
      instances: 2,
      exec_mode: 'cluster',
      max_memory_restart: '200M',
      watch: ['programs'],
      ignore_watch: ['node_modules'],
      env: { PORT: process.env.FIRST, NODE_ENV: 'development' },
      env_production: { NODE_ENV: 'production' },
    },
    shell,
  ],
};
