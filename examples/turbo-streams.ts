/*
 * A page of Turbo. Each event is a Turbo stream: an action on an element of the page.
 *
 *   npx tsx examples/turbo-streams.ts        # the page: http://localhost:3000
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders
 */
import { createRequire } from 'node:module';
import { html } from './html.ts';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const orders: string[] = [];
const events = sse((conn) => conn.join('orders'));
const row = (n: number) => html`<li id="order-${n}">${orders[n]}</li>`; // html`` escapes the values

const app = express();
app.use('/events', events);
app.post('/orders', express.json(), async (req, res) => {
  const n = orders.push(req.body.item) - 1;
  const stream = `<turbo-stream action="append" target="list"><template>${row(n)}</template></turbo-stream>`;
  await events.broadcast(stream, { to: 'orders' });
  res.sendStatus(204);
});

app.get('/', (_req, res) => {
  const since = encodeURIComponent(events.position); // before the rows: an order in between is not lost
  res.send(`<!doctype html>
    <head>
      <script type="module">
        import '/scripts/turbo.js';
        const { streamSource } = document.querySelector('turbo-stream-source');
        streamSource.addEventListener('reset', () => location.reload());
      </script>
    </head>
    <ol id="list">${[...orders.keys()].map(row).join('')}</ol>
    <turbo-stream-source src="/events?lastEventId=${since}"></turbo-stream-source>`);
});
// #endregion docs

const turbo = createRequire(import.meta.url).resolve('@hotwired/turbo/dist/turbo.es2017-esm.js');
app.get('/scripts/turbo.js', (_req, res) => res.sendFile(turbo));

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
