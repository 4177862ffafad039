import { runTicker } from './ticker';

runTicker('boltlink-worker').catch((error: Error) => {
  console.error(`boltlink-worker cannot start: ${error.message}`);
  process.exit(1);
});
