import { Module } from '@nestjs/common';
import { HealthController } from './health/health.controller.js';
import { OrdersController } from './orders/orders.controller.js';
import { OrdersService } from './orders/orders.service.js';
import { SharedModule } from './shared.module.js';

@Module({
  imports: [SharedModule],
  controllers: [HealthController, OrdersController],
  providers: [OrdersService],
})
export class ApiModule {}
