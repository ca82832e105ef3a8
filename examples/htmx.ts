/*
 * A page of htmx 4, and the same page of htmx 2 with its extension htmx-ext-sse. The events contain HTML.
 *
 *   npx tsx examples/htmx.ts        # the pages: http://localhost:3000/htmx4 and http://localhost:3000/htmx2
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders
 *   curl -X POST http://localhost:3000/closing-time
 */
import { createRequire } from 'node:module';
import { html } from './html.ts';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const orders: string[] = [];
const events = sse((conn) => conn.join('orders'));
const rows = () => orders.map((item) => html`<li>${item}</li>`).join(''); // html`` escapes the values

const app = express();
app.use('/events', events);
app.get('/orders', (_req, res) => void res.send(rows()));
app.post('/orders', express.json(), async (req, res) => {
  orders.push(req.body.item);
  await events.broadcast(html`<li>${req.body.item}</li>`, { to: 'orders' });
  res.sendStatus(204);
});
app.post('/closing-time', async (_req, res) => {
  await events.disconnect({ to: 'orders', end: true });
  res.sendStatus(204);
});

app.get('/htmx4', (_req, res) => {
  const since = encodeURIComponent(events.position); // before the rows: an order in between is not lost
  res.send(`<!doctype html>
    <script src="/scripts/htmx4.js"></script>
    <script src="/scripts/hx-sse.js"></script>
    <ol id="list" hx-get="/orders" hx-trigger="reset from:#live">${rows()}</ol>
    <div id="live" hx-sse:connect="/events?lastEventId=${since}" hx-sse:close="end"
      hx-target="#list" hx-swap="beforeend"></div>`);
});

app.get('/htmx2', (_req, res) => {
  const since = encodeURIComponent(events.position);
  res.send(`<!doctype html>
    <script src="/scripts/htmx2.js"></script>
    <script src="/scripts/htmx-ext-sse.js"></script>
    <div hx-ext="sse" sse-connect="/events?lastEventId=${since}" sse-close="end">
      <div hx-get="/orders" hx-trigger="sse:reset" hx-target="#list"></div>
      <ol id="list" sse-swap="message" hx-swap="beforeend">${rows()}</ol>
    </div>`);
});
// #endregion docs

const require = createRequire(import.meta.url);
const SCRIPTS = {
  'htmx4.js': 'htmx4/dist/htmx.js',
  'hx-sse.js': 'htmx4/dist/ext/hx-sse.js',
  'htmx2.js': 'htmx.org/dist/htmx.js',
  'htmx-ext-sse.js': 'htmx-ext-sse/dist/sse.js',
};
for (const [name, file] of Object.entries(SCRIPTS)) {
  app.get(`/scripts/${name}`, (_req, res) => res.sendFile(require.resolve(file)));
}

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
