import { BullModule } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import dataSource from './data-source.js';
import { Order } from './orders/order.entity.js';

/** What the API and the worker have in common: the database, and the queue between them. */
@Module({
  imports: [
    TypeOrmModule.forRoot(dataSource.options),
    TypeOrmModule.forFeature([Order]),
    BullModule.forRoot({
      prefix: 'orders', // several projects may use the same Redis
      connection: { url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379/0' },
    }),
    BullModule.registerQueue({ name: 'confirmations' }),
  ],
  exports: [TypeOrmModule, BullModule],
})
export class SharedModule {}
