import { BadRequestException, Body, Controller, Get, NotFoundException, Param, ParseIntPipe, Post } from '@nestjs/common';
import { OrdersService } from './orders.service.js';

const GREETING = 'Orders, please';

@Controller()
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Get()
  greet() {
    return { greeting: GREETING, release: process.env.PERCORE_RELEASE };
  }

  @Post('orders')
  place(@Body() body: { item?: unknown }) {
    if (typeof body?.item !== 'string' || !body.item) throw new BadRequestException('item is missing');
    return this.orders.place(body.item);
  }

  @Get('orders/:id')
  async find(@Param('id', ParseIntPipe) id: number) {
    const order = await this.orders.find(id);
    if (!order) throw new NotFoundException();
    return order;
  }
}
