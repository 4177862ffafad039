import { Processor, WorkerHost } from '@nestjs/bullmq';
import { Logger } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Job } from 'bullmq';
import { setTimeout as sleep } from 'node:timers/promises';
import { Repository } from 'typeorm';
import { Order } from './order.entity.js';

/** @nestjs/bullmq closes the worker on shutdown: it waits for the job that runs. */
@Processor('confirmations')
export class ConfirmationsProcessor extends WorkerHost {
  private readonly logger = new Logger(ConfirmationsProcessor.name);

  constructor(@InjectRepository(Order) private readonly orders: Repository<Order>) {
    super();
  }

  async process(job: Job<{ orderId: number }>) {
    await sleep(2000); // such as a call to the warehouse
    await this.orders.update(job.data.orderId, { state: 'confirmed' });
    this.logger.log(`order ${job.data.orderId} confirmed`);
  }
}
