import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateOrders1780000000000 implements MigrationInterface {
  name = 'CreateOrders1780000000000';

  async up(runner: QueryRunner) {
    await runner.query(
      `CREATE TABLE orders (
        id serial PRIMARY KEY,
        item text NOT NULL,
        state text NOT NULL DEFAULT 'received',
        created_at timestamptz NOT NULL DEFAULT now()
      )`,
    );
  }

  async down(runner: QueryRunner) {
    await runner.query('DROP TABLE orders');
  }
}
