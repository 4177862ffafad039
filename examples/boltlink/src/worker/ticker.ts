// A service that must run only once. Each second it writes a line with its pid, so a second instance would be visible.
import { log } from '../settings';
import { openStore } from '../store';

export async function runTicker(service: string): Promise<void> {
  const store = await openStore();
  const instance = process.env.NODE_APP_INSTANCE ?? '0';
  const release = process.env.PERCORE_RELEASE ?? 'development';
  const tick = () => {
    const worker = `pid=${process.pid} instance=${instance} release=${release}`;
    log('info', `${new Date().toISOString()} ${service} tick ${worker}`);
    store.recordTick(service, process.pid).catch((error: Error) => log('error', `${service}: ${error.message}`));
  };
  tick();
  const timer = setInterval(tick, 1000);
  const stop = () => {
    clearInterval(timer);
    void store.close().finally(() => process.exit(0));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}
