/*
 * A notification feed: sign in, read the own notifications in every tab, sign out, and lose nothing when the server restarts.
 *
 *   npx tsx examples/inbox/server.ts         http://localhost:3000, the users are ada and bob, their names are the passwords
 *   DATA=./data PORT=4000 npx tsx examples/inbox/server.ts
 */
import { running } from '../running.ts';
// #region docs
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import express, { type RequestHandler } from 'express';
import { open } from 'lmdb';
import { sse } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';

const data = process.env.DATA ?? './data';
const database = open({ path: `${data}/database` }); // yours: it has the sessions and the notifications

const events = sse(
  (conn, _req, res) => {
    const { user, session } = res.locals;
    if (userOf(session) === undefined) return res.sendStatus(401); // a logout may have followed the check of signedIn
    conn.state.user = user;
    conn.join(`user:${user}`, `session:${session}`);
  },
  {
    history: lmdbJournal(`${data}/events`), // a client that reconnects after a restart receives what it missed
    snapshot: (conn) => ({ event: 'items', data: itemsOf(conn.state.user as string) }), // for a page that is loaded
  },
);

const app = express();
app.get('/', (_req, res) => res.sendFile(fileURLToPath(new URL('page.html', import.meta.url))));

app.post('/login', express.json({ limit: '1kb' }), async (req, res) => {
  const { user, password } = req.body;
  if (!(await isPassword(user, password))) return void res.sendStatus(401);
  const session = randomUUID();
  await database.put(['session', session], user);
  res.cookie('session', session, { httpOnly: true, sameSite: 'strict', secure: req.secure }).sendStatus(204);
});

const signedIn: RequestHandler = (req, res, next) => {
  const session = /(?:^|;\s*)session=([\w-]+)/.exec(req.headers.cookie ?? '')?.[1] ?? '';
  const user = userOf(session);
  if (user === undefined) return void res.sendStatus(401);
  Object.assign(res.locals, { user, session });
  next();
};

app.use('/events', signedIn, events);

app.post('/logout', signedIn, async (_req, res) => {
  const { session } = res.locals;
  await database.remove(['session', session]); // first, so that no client returns with its session
  await events.disconnect({ to: `session:${session}`, end: true }); // the tabs of this browser, and no other
  res.clearCookie('session').sendStatus(204);
});

app.post('/notifications/:user', signedIn, express.json({ limit: '4kb' }), async (req, res) => {
  await notify(String(req.params.user), `${res.locals.user}: ${req.body.text}`);
  res.sendStatus(204);
});

/** Stores a notification, then sends it to the open pages of its user. */
async function notify(user: string, text: string): Promise<void> {
  const item = { id: `${Date.now()}-${randomUUID()}`, text };
  await database.put(['item', user, item.id], item);
  await events.broadcast({ event: 'item', data: item }, { to: `user:${user}` });
}

/** The newest 50 notifications, the oldest of them first. */
function itemsOf(user: string): unknown[] {
  const newest = database.getRange({
    start: ['item', user, '\uffff'],
    end: ['item', user],
    reverse: true,
    limit: 50,
  });
  return [...newest].map(({ value }) => value).reverse();
}

function userOf(session: string): string | undefined {
  return database.get(['session', session]);
}

const server = app.listen(process.env.PORT ?? 3000);
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, async () => {
    await events.close({ over: 1000 }); // first: the server waits for the end of every response
    server.close();
  });
}
// #endregion docs

async function isPassword(user: unknown, password: unknown): Promise<boolean> {
  return (user === 'ada' || user === 'bob') && password === user;
}

await running(server);
