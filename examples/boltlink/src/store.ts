// Counters in Redis and ticks in PostgreSQL if their URLs are set. Otherwise counters are in memory, and ticks are dropped.
import { log, settings } from './settings';

export interface Store {
  /** Adds one to the named counter and returns the new value. */
  increment(name: string): Promise<number>;
  /** Records a tick of a singleton; does nothing without a database. */
  recordTick(service: string, pid: number): Promise<void>;
  /** Rejects when a store does not answer. */
  check(): Promise<void>;
  close(): Promise<void>;
}

// All workers start at the same time, and concurrent CREATE TABLE statements can fail: the lock serializes them.
const CREATE_TABLE = `
  SELECT pg_advisory_xact_lock(20775);
  CREATE TABLE IF NOT EXISTS ticks (service text, pid int, at timestamptz DEFAULT now())`;

// The clients are loaded where they are used: a worker without a database starts several times faster.
async function connectRedis(url: string) {
  const { createClient } = await import('redis');
  // Without the offline queue, a lost connection is an immediate error instead of a request that hangs.
  const redis = createClient({ url, disableOfflineQueue: true });
  redis.on('error', (error: Error) => log('error', `redis: ${error.message}`));
  await redis.connect();
  return redis;
}

async function connectPostgres(url: string) {
  const { Pool } = await import('pg');
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 5000 });
  pool.on('error', (error: Error) => log('error', `postgres: ${error.message}`));
  await pool.query(CREATE_TABLE);
  return pool;
}

export async function openStore(): Promise<Store> {
  const counters = new Map<string, number>();
  const redis = settings.redisUrl ? await connectRedis(settings.redisUrl) : undefined;
  const pool = settings.databaseUrl ? await connectPostgres(settings.databaseUrl) : undefined;

  return {
    async increment(name) {
      if (redis) return redis.incr(name);
      const value = (counters.get(name) ?? 0) + 1;
      counters.set(name, value);
      return value;
    },
    async recordTick(service, pid) {
      await pool?.query('INSERT INTO ticks (service, pid) VALUES ($1, $2)', [service, pid]);
    },
    async check() {
      await pool?.query('SELECT 1');
      await redis?.ping();
    },
    async close() {
      await redis?.quit();
      await pool?.end();
    },
  };
}
