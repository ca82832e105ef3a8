/*
 * The orders of a shop, after the move from better-sse-before.ts. The addresses, the names and the data of the events are the same.
 *
 *   npx tsx examples/migrating/better-sse-after.ts
 *   curl -N http://localhost:3000/events/oslo
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders/oslo
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { sse } from '../../lib/index.ts';

const app = express();
const branches = ['bergen', 'oslo'];
const events = sse(
  (conn, req, res) => {
    const branch = req.params.branch as string;
    if (!branches.includes(branch)) return void res.sendStatus(404);
    conn.join(branch);
    conn.push({ event: 'hello', data: { branch } });
  },
  { serialize: JSON.stringify }, // a text is sent in quotes, as before
);
app.use('/events/:branch', events);

app.post('/orders/:branch', express.json(), async (req, res) => {
  const branch = req.params.branch as string;
  if (!branches.includes(branch)) return void res.sendStatus(404);
  await events.broadcast({ event: 'order', data: req.body }, { to: branch });
  res.sendStatus(204);
});

app.post('/news', express.json({ strict: false }), async (req, res) => {
  await events.broadcast({ event: 'news', data: req.body });
  res.sendStatus(204);
});

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, () => events.close());
