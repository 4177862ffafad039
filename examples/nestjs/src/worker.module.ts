import { Module } from '@nestjs/common';
import { ConfirmationsProcessor } from './orders/confirmations.processor.js';
import { SharedModule } from './shared.module.js';

@Module({ imports: [SharedModule], providers: [ConfirmationsProcessor] })
export class WorkerModule {}
