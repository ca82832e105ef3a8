/*
 * The events as a type: a wrong name or a wrong payload does not compile, in push, broadcast, snapshot and yield.
 *
 *   npx tsx examples/typed-events.ts
 *   curl -N http://localhost:3000/events
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea","count":2}' http://localhost:3000/orders
 */
import express from 'express';
import { running } from './running.ts';
// #region readme
import { sse } from '../lib/index.ts';

type Events = { order: { item: string; count: number }; stock: number };

let stock = 12;
const events = sse<Events>(() => {}, { snapshot: () => ({ event: 'stock', data: stock }) });

export const sell = (item: string, count: number) => events.broadcast({ event: 'order', data: { item, count } });

// @ts-expect-error: there is no such event
export const misspelt = () => events.broadcast({ event: 'ordr', data: { item: 'tea', count: 2 } });
// #endregion

// @ts-expect-error: a count is a number
export const mistaken = () => events.broadcast({ event: 'order', data: { item: 'tea', count: '2' } });

const app = express();
app.use('/events', events);
app.post('/orders', express.json(), async (req, res) => {
  const { item, count } = req.body as Record<string, unknown>;
  if (typeof item !== 'string' || !Number.isInteger(count)) return void res.sendStatus(400);
  stock -= count as number;
  await events.broadcast({ event: 'stock', data: stock });
  res.status(201).json({ id: await sell(item, count as number) });
});

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
