import { Controller, Get } from '@nestjs/common';
import { DataSource } from 'typeorm';

@Controller('health')
export class HealthController {
  constructor(private readonly database: DataSource) {}

  /** Each new worker must answer it before it gets requests. */
  @Get()
  async check() {
    await this.database.query('SELECT 1');
    return { status: 'ok' };
  }
}
