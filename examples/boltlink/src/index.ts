// The API. It listens on one port and does not know about the other workers.
import { createServer, IncomingMessage, ServerResponse } from 'node:http';
import { log, settings } from './settings';
import { openStore, Store } from './store';

const port = settings.port;
const instance = Number(process.env.NODE_APP_INSTANCE ?? 0);
const release = process.env.PERCORE_RELEASE ?? 'development';
const version: string = require('../package.json').version;
const leaked: Buffer[] = [];

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body) + '\n');
}

/** Browsers of these origins may read the answers. */
function allowOrigin(request: IncomingMessage, response: ServerResponse): void {
  const origin = request.headers.origin;
  if (!origin || !settings.allowedOrigins.includes(origin)) return;
  response.setHeader('access-control-allow-origin', origin);
  response.setHeader('vary', 'Origin');
}

/** The number in the query, between 0 and `limit`. */
function amount(url: URL, name: string, otherwise: number, limit: number): number {
  const value = Number(url.searchParams.get(name) ?? otherwise);
  return Number.isFinite(value) ? Math.min(Math.max(value, 0), limit) : otherwise;
}

async function handle(store: Store, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://localhost');
  switch (url.pathname) {
    case '/':
      return answer(response, 200, { pid: process.pid, instance, release, node: process.version });
    case '/health':
      return store.check().then(
        () => answer(response, 200, { status: 'ok' }),
        (error: Error) => answer(response, 503, { status: 'unhealthy', error: error.message }),
      );
    case '/version':
      return answer(response, 200, { version, release, node: process.version });
    case '/count':
      return answer(response, 200, { count: await store.increment('boltlink:count') });
    case '/slow': {
      const milliseconds = amount(url, 'ms', 1000, 60_000);
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
      return answer(response, 200, { slept: milliseconds });
    }
    case '/leak': {
      leaked.push(Buffer.alloc(amount(url, 'mb', 10, 1024) * 1024 * 1024, 1));
      return answer(response, 200, { leaked_mb: leaked.reduce((sum, piece) => sum + piece.length, 0) / 1024 / 1024 });
    }
    case '/crash':
      log('error', `crash requested in pid ${process.pid}`);
      process.exit(1);
    default:
      return answer(response, 404, { error: 'not found' });
  }
}

async function main(): Promise<void> {
  const store = await openStore();
  const server = createServer((request, response) => {
    log('debug', `${request.method} ${request.url}`);
    allowOrigin(request, response);
    handle(store, request, response).catch((error: Error) => {
      log('error', `${request.method} ${request.url}: ${error.message}`);
      if (!response.headersSent) answer(response, 500, { error: settings.isProduction ? 'internal error' : error.message });
    });
  });
  server.on('error', (error) => {
    log('error', `cannot listen on port ${port}: ${error.message}`);
    process.exit(1);
  });
  server.listen(port, () => {
    log('info', `boltlink-api listens on ${port} pid=${process.pid} instance=${instance} release=${release}`);
  });

  let isStopping = false;
  const stop = (signal: string) => {
    if (isStopping) return;
    isStopping = true;
    log('info', `${signal}: finishing open requests (pid ${process.pid})`);
    server.close(() => void store.close().finally(() => process.exit(0)));
    server.closeIdleConnections();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

main().catch((error: Error) => {
  log('error', `boltlink-api cannot start: ${error.message}`);
  process.exit(1);
});
