/*
 * One of two servers on one Postgres: an order and its event are stored in one transaction, so a rolled-back order has no event.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { running } from '../running.ts';
import { PAGE } from './page.ts';
// #region journal
import express from 'express';
import pg from 'pg';
import { sse } from '../../lib/index.ts';
import { postgresJournal } from '../../lib/journal/postgres/index.ts';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const events = sse({ history: postgresJournal(pool), retry: 500 });
// #endregion journal

const app = express();
app.use('/events', events);
app.get('/', (_req, res) => void res.type('html').send(PAGE));

/** Every order that exists: what the page compares its events with. */
app.get('/orders', async (_req, res) => {
  const { rows } = await pool.query('SELECT id, item FROM orders ORDER BY id');
  res.json(rows);
});

app.post('/orders', express.json(), async (req, res) => {
  const { item = 'something', refused = false } = req.body as { item?: string; refused?: boolean };
  const order = await placeOrder(item, refused).catch(() => undefined);
  if (order) res.status(201).json(order);
  else res.status(402).json({ refused: true });
});

interface Order {
  readonly id: number;
  readonly item: string;
}

// #region within
async function placeOrder(item: string, cardIsRefused: boolean): Promise<Order> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const { rows } = await client.query<Order>('INSERT INTO orders (item) VALUES ($1) RETURNING id, item', [item]);
    await events.within(client).broadcast({ event: 'order', data: rows[0] });
    if (cardIsRefused) throw new Error('The card was refused.');
    await client.query('COMMIT');
    return rows[0]!;
  } catch (error) {
    await client.query('ROLLBACK'); // takes the event with it
    throw error;
  } finally {
    client.release();
  }
}
// #endregion within

const ITEMS = ['tea', 'coffee', 'bread', 'milk', 'apples'];
let n = 0;
const ordering = setInterval(() => {
  n++;
  placeOrder(`${ITEMS[n % ITEMS.length]} (server ${process.pid})`, n % 3 === 0).catch(() => {}); // every third card is refused
}, 1500);

const server = app.listen(Number(process.env.PORT ?? 0), '127.0.0.1');
server.once('close', () => process.connected && process.disconnect()); // the channel to the parent would keep the process alive
await once(server, 'listening');
await running(server, async () => {
  clearInterval(ordering);
  await events.close();
  await pool.end();
});
process.once('disconnect', () => process.exit()); // the parent was killed
process.send?.((server.address() as AddressInfo).port);
