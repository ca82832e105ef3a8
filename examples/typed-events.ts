/*
 * The events of an application as a type: with it, a wrong name or a wrong payload does not compile, in push, broadcast,
 * snapshot and yield.
 *
 *   npx tsx examples/typed-events.ts
 *   curl -N http://localhost:3000/events
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea","count":2}' http://localhost:3000/orders
 */
import express from 'express';
import { running } from './running.ts';
import { sse } from '../lib/index.ts';

// #region readme
type Events = { order: { item: string; count: number }; stock: number };

let stock = 12;
const events = sse<Events>((conn) => conn.push({ event: 'stock', data: stock }));

export const sell = (item: string, count: number) => events.broadcast({ event: 'order', data: { item, count } });

// @ts-expect-error: no event has this name
export const unknown = () => events.broadcast({ event: 'ordr', data: { item: 'tea', count: 2 } });
// #endregion readme

// @ts-expect-error: `count` is a number
export const mistyped = () => events.broadcast({ event: 'order', data: { item: 'tea', count: '2' } });

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
