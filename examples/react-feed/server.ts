/*
 * A React page: a list of orders, the newest one, and the status of the stream, each in a component of its own.
 *
 *   npx tsx examples/react-feed/server.ts
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea","count":2}' http://localhost:3000/orders
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { bundled } from '../browser-client.ts';
import { events, sell } from '../client/feed.ts';
import { running } from '../running.ts';

const app = express();
app.use('/events', events);
app.post('/orders', express.json(), async (req, res) => {
  await sell(String(req.body.item), Number(req.body.count));
  res.sendStatus(204);
});
app.get('/', (_req, res) => {
  res.send('<!doctype html><title>Orders</title><div id="root"></div><script type="module" src="/page.js"></script>');
});
app.use(await bundled(join(dirname(fileURLToPath(import.meta.url)), 'page.tsx')));

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
