/*
 * The orders of a shop with better-sse: what better-sse-after.ts replaces. Each client has the channel of its branch.
 *
 *   npx tsx examples/migrating/better-sse-before.ts
 *   curl -N http://localhost:3000/events/oslo
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders/oslo
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { createChannel, createSession } from 'better-sse';

const app = express();
const shop = createChannel();
const branches = { bergen: createChannel(), oslo: createChannel() };
const isBranch = (name: string): name is keyof typeof branches => Object.hasOwn(branches, name);

app.get('/events/:branch', async (req, res) => {
  const { branch } = req.params;
  if (!isBranch(branch)) return void res.sendStatus(404);
  const session = await createSession(req, res);
  session.push({ branch }, 'hello');
  shop.register(session);
  branches[branch].register(session);
});

app.post('/orders/:branch', express.json(), (req, res) => {
  const { branch } = req.params;
  if (!isBranch(branch)) return void res.sendStatus(404);
  branches[branch].broadcast(req.body, 'order');
  res.sendStatus(204);
});

app.post('/news', express.json({ strict: false }), (req, res) => {
  shop.broadcast(req.body, 'news');
  res.sendStatus(204);
});

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, async () => server.closeAllConnections());
