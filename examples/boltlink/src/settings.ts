// Everything that differs between environments; .env.production.example lists it.
const LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type Level = (typeof LEVELS)[number];

export const settings = {
  isProduction: process.env.NODE_ENV === 'production',
  port: Number(process.env.PORT ?? 5000),
  databaseUrl: process.env.DATABASE_URL,
  redisUrl: process.env.REDIS_URL,
  allowedOrigins: (process.env.ALLOWED_ORIGINS ?? '').split(',').map((origin) => origin.trim()).filter(Boolean),
  logLevel: LEVELS.includes(process.env.LOG_LEVEL as Level) ? (process.env.LOG_LEVEL as Level) : 'info',
};

/** Errors and warnings go to the error log. */
export function log(level: Level, text: string): void {
  if (LEVELS.indexOf(level) > LEVELS.indexOf(settings.logLevel)) return;
  if (level === 'error' || level === 'warn') console.error(text);
  else console.log(text);
}
