/*
 * Notes for users, after the move from socket-io-before.ts.
 *
 *   npx tsx examples/migrating/socket-io-after.ts
 *   curl -N -H 'Cookie: session=s-ada' http://localhost:3000/events
 *   curl -H 'Content-Type: application/json' -d '{"text":"Lunch?"}' http://localhost:3000/notes/ada
 */
import { userOf } from './user-of.ts';
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { sse } from '../../lib/index.ts';

const app = express();
const events = sse((conn, _req, res) => {
  conn.join(`user:${res.locals.user}`);
  conn.push({ event: 'hello', data: { user: res.locals.user } });
});

app.use('/events', (req, res, next) => {
  res.locals.user = userOf(req.headers.cookie);
  if (res.locals.user) next();
  else res.sendStatus(401);
});
app.use('/events', events);

app.post('/notes/:user', express.json(), async (req, res) => {
  await events.broadcast({ event: 'note', data: req.body }, { to: `user:${req.params.user}` });
  res.sendStatus(204);
});

app.post('/logout/:user', async (req, res) => {
  await events.disconnect({ to: `user:${req.params.user}` });
  res.sendStatus(204);
});

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, () => events.close());
