/*
 * The snapshot of one user: the handler sets the user of the connection, and the snapshot reads it.
 *
 *   npx tsx examples/snapshot-of-a-user.ts
 *   curl -N -H 'Cookie: session=s-ada' http://localhost:3000/events
 *   curl -H 'Cookie: session=s-ada' -H 'Content-Type: application/json' -d '"Lunch?"' http://localhost:3000/notes
 */
import { randomUUID } from 'node:crypto';
import type { RequestHandler } from 'express';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

type Note = { id: string; text: string };

const events = sse<{ notes: Note[]; note: Note }, { user: string }>(
  (conn, _req, res) => {
    conn.state.user = res.locals.user;
    conn.join(`user:${res.locals.user}`);
  },
  { snapshot: (conn) => ({ event: 'notes', data: notesOf(conn.state.user!) }) },
);

const app = express();
app.use(signedIn); // answers 401, or sets res.locals.user
app.use('/events', events);
// #endregion docs

const notes = new Map<string, Note[]>();

function notesOf(user: string): Note[] {
  const own = notes.get(user) ?? [];
  notes.set(user, own);
  return own;
}

function signedIn(...[req, res, next]: Parameters<RequestHandler>): void {
  res.locals.user = { 'session=s-ada': 'ada', 'session=s-bob': 'bob' }[req.headers.cookie ?? ''];
  if (res.locals.user) next();
  else res.sendStatus(401);
}

app.post('/notes', express.json({ strict: false }), async (req, res) => {
  const note = { id: randomUUID(), text: String(req.body) };
  notesOf(res.locals.user).push(note);
  await events.broadcast({ event: 'note', data: note }, { to: `user:${res.locals.user}` });
  res.sendStatus(204);
});

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
