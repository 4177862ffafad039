import { DataSource } from 'typeorm';
import { CreateOrders1780000000000 } from './migrations/1780000000000-CreateOrders.js';
import { Order } from './orders/order.entity.js';

// One for the app and for `typeorm migration:run`. The release command changes the schema, never a start of the app.
const url = process.env.DATABASE_URL ?? 'postgresql://orders:orders@127.0.0.1:5432/orders';
export default new DataSource({
  type: 'postgres',
  url,
  entities: [Order],
  migrations: [CreateOrders1780000000000],
  extra: { max: 5 }, // connections of one worker: there is a worker on each core of each host
});
