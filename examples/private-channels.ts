/*
 * A channel for each user. Ordinary middleware in front of the stream authenticates every connect. An event id is a position
 * in the log, never a permission. Pages of https://app.example may read the stream, with their cookies.
 *
 *   npx tsx examples/private-channels.ts
 *   curl -N -H 'Cookie: session=s-ada' http://localhost:3000/events
 *   curl -i -H 'Origin: https://app.example' http://localhost:3000/events
 *   curl -H 'Cookie: session=s-bob' -H 'Content-Type: application/json' -d '"Lunch?"' http://localhost:3000/notes/ada
 */
import type { RequestHandler } from 'express';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const app = express();
// #region readme
const events = sse((conn, _req, res) => conn.join(`user:${res.locals.user}`), {
  cors: { origin: 'https://app.example', credentials: true },
});

app.use('/events', events.cors); // first: a preflight has no cookies, and a page can read a 401 only with CORS headers
app.use(signedIn); // answers 401, or sets res.locals.user
app.use('/events', events);
app.post('/notes/:user', express.json({ strict: false }), async (req, res) => {
  const data = { from: res.locals.user, text: req.body };
  await events.broadcast({ event: 'note', data }, { to: `user:${req.params.user}` });
  res.sendStatus(204);
});
// #endregion readme
// #endregion docs

const sessions = new Map([
  ['s-ada', 'ada'],
  ['s-bob', 'bob'],
]);

function signedIn(...[req, res, next]: Parameters<RequestHandler>): void {
  const session = /(?:^|;\s*)session=([^;]+)/.exec(req.headers.cookie ?? '')?.[1] ?? '';
  res.locals.user = sessions.get(session);
  if (res.locals.user) next();
  else res.sendStatus(401); // after a 401, a browser's EventSource does not reconnect
}

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
