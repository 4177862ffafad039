// Each request costs 1 ms of CPU.
process.env.COST_MICROSECONDS = '1000';
require('./busy.cjs');
