/*
 * A route broadcasts what one client posts to every connected client.
 *
 *   npx tsx examples/broadcast-from-a-route.ts
 *   curl -N http://localhost:3000/events
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders
 */
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const app = express();
// #region readme
const events = sse();
app.use('/events', events);

app.post('/orders', express.json(), async (req, res) => {
  if (req.body?.item === undefined) return void res.sendStatus(400);
  res.status(201).json({ id: await events.broadcast({ event: 'order', data: req.body }) });
});
// #endregion readme
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
