module.exports = [
  { script: 'programs/answer.js', name: 'tcp', instances: 2, exec_mode: 'cluster_mode', env: { PORT: process.env.FIRST } },
];
