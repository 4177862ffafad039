import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { ApiModule } from './api.module.js';

const app = await NestFactory.create<NestExpressApplication>(ApiModule);
app.set('trust proxy', 'loopback'); // NGINX on the same host: the client's address and https are what it says
app.enableShutdownHooks(); // SIGINT closes the server, the queue and the connections to PostgreSQL, in this order
await app.listen(process.env.PORT ?? 3001);
