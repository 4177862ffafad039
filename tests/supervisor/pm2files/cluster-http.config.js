module.exports = {
  apps: [
    { name: 'web', script: 'programs/answer.js', instances: 'max', exec_mode: 'cluster', env: { PORT: process.env.FIRST } },
    { name: 'alone', script: 'programs/answer.js', env: { PORT: process.env.SECOND } },
  ],
};
