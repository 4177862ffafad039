import { runTicker } from './ticker';

runTicker('boltlink-aggregator').catch((error: Error) => {
  console.error(`boltlink-aggregator cannot start: ${error.message}`);
  process.exit(1);
});
