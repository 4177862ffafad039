// Shared state in Redis and facts in PostgreSQL when their URLs are set; in this process's memory otherwise.
import { Pool } from 'pg';
import { createClient } from 'redis';

export interface Store {
  /** Adds one to the named counter and returns the new value. */
  increment(name: string): Promise<number>;
  /** Remembers a tick of a singleton; does nothing without a database. */
  recordTick(service: string, pid: number): Promise<void>;
  isHealthy(): Promise<boolean>;
  close(): Promise<void>;
}

export async function openStore(): Promise<Store> {
  const counters = new Map<string, number>();
  const redis = process.env.REDIS_URL ? createClient({ url: process.env.REDIS_URL }) : undefined;
  redis?.on('error', (error: Error) => console.error(`redis: ${error.message}`));
  await redis?.connect();
  const pool = process.env.DATABASE_URL ? new Pool({ connectionString: process.env.DATABASE_URL }) : undefined;
  await pool?.query('CREATE TABLE IF NOT EXISTS ticks (service text, pid int, at timestamptz DEFAULT now())');

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
    async isHealthy() {
      await pool?.query('SELECT 1');
      await redis?.ping();
      return true;
    },
    async close() {
      await redis?.quit();
      await pool?.end();
    },
  };
}
