/*
 * A subscription of tRPC over the log. A tRPC client that reconnects sends the id of the last event that it received, and the
 * subscription continues after this event.
 *
 *   npx tsx examples/trpc-subscription.ts
 *   curl -N http://localhost:3000/trpc/orders
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders
 */
import { running } from './running.ts';
// #region docs
import { initTRPC, tracked } from '@trpc/server';
import { createExpressMiddleware } from '@trpc/server/adapters/express';
import express from 'express';
import { sse } from '../lib/index.ts';

const events = sse();
const t = initTRPC.create();
const input = (value: unknown) => value as { lastEventId?: string } | undefined;

const api = t.router({
  orders: t.procedure.input(input).subscription(async function* ({ input: position, signal }) {
    const after = position?.lastEventId || undefined; // tRPC adds the client's last id to the input
    for await (const event of events.follow({ to: 'orders', after, signal })) {
      if (event.type === 'reset') yield tracked(event.id, { reset: event.reason });
      else yield tracked(event.id, { order: JSON.parse(event.data) as { item: string } });
    }
  }),
});

const app = express();
app.use('/trpc', createExpressMiddleware({ router: api }));
app.post('/orders', express.json(), async (req, res) => {
  const id = await events.broadcast({ event: 'order', data: req.body }, { to: 'orders' });
  res.status(201).json({ id });
});
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
