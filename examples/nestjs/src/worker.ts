import { NestFactory } from '@nestjs/core';
import { WorkerModule } from './worker.module.js';

const worker = await NestFactory.createApplicationContext(WorkerModule);
worker.enableShutdownHooks(); // SIGINT: the job that runs ends first, and no other one begins
process.send?.('ready');
