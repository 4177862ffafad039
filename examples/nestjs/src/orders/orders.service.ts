import { InjectQueue } from '@nestjs/bullmq';
import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Queue } from 'bullmq';
import { Repository } from 'typeorm';
import { Order } from './order.entity.js';

@Injectable()
export class OrdersService {
  constructor(
    @InjectRepository(Order) private readonly orders: Repository<Order>,
    @InjectQueue('confirmations') private readonly confirmations: Queue<{ orderId: number }>,
  ) {}

  find(id: number) {
    return this.orders.findOneBy({ id });
  }

  /** The worker confirms it; the client does not wait for that. */
  async place(item: string) {
    const order = await this.orders.save(this.orders.create({ item }));
    await this.confirmations.add('confirm', { orderId: order.id }, { attempts: 5, backoff: { type: 'exponential', delay: 1000 } });
    return order;
  }
}
