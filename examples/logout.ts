/*
 * Logout in every process. A stream ends when its user logs out in any process, when its session expires, and when its session
 * is removed from the store. Processes with the same directories share the sessions and the log.
 *
 *   EVENTS=./events SESSIONS=./sessions npx tsx examples/logout.ts
 *   mkdir -p sessions && echo '{"user":"ada","expires":4000000000000}' > sessions/s-ada
 *   curl -N -H 'Cookie: session=s-ada' http://localhost:3000/events
 *   curl -X POST -H 'Cookie: session=s-ada' http://localhost:3000/logout
 */
import { mkdtempSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RequestHandler } from 'express';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';
import { lmdbJournal } from '../lib/journal/lmdb/index.ts';

const events = sse(
  async (conn, _req, res) => {
    const { id, user } = res.locals.session;
    if (!(await findSession(id))) return res.sendStatus(401); // a logout may have followed the middleware's check
    conn.state.session = id;
    conn.join(`user:${user}`);
  },
  {
    history: lmdbJournal(process.env.EVENTS!),
    maxAge: (_req, res) => res.locals.session.expires - Date.now(),
    recheck: { every: 60_000, check: async (conn) => (await findSession(conn.state.session)) !== undefined },
  },
);

const app = express();
app.use(signedIn); // answers 401, or sets res.locals.session
app.use('/events', events);
app.post('/logout', async (_req, res) => {
  const { user } = res.locals.session;
  await removeSessions(user); // first, so that no client returns with its session
  await events.disconnect({ to: `user:${user}`, end: true });
  res.sendStatus(204);
});
// #endregion docs

interface Session {
  id: string;
  user: string;
  expires: number;
}

// The store of the sessions: a file for each.
const folder = process.env.SESSIONS ?? mkdtempSync(join(tmpdir(), 'sessions-'));

async function findSession(id: unknown): Promise<Session | undefined> {
  if (!/^[\w-]+$/.test(String(id))) return undefined;
  const text = await readFile(join(folder, String(id)), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : { id: String(id), ...JSON.parse(text) };
}

async function removeSessions(user: string): Promise<void> {
  const sessions = await Promise.all((await readdir(folder)).map(findSession));
  const mine = sessions.filter((one) => one?.user === user);
  await Promise.all(mine.map((one) => rm(join(folder, one!.id), { force: true })));
}

async function signedIn(...[req, res, next]: Parameters<RequestHandler>): Promise<void> {
  const session = await findSession(/(?:^|;\s*)session=([^;]+)/.exec(req.headers.cookie ?? '')?.[1]);
  res.locals.session = session;
  if (session && session.expires > Date.now()) next();
  else res.sendStatus(401);
}

app.post('/notes', express.json({ strict: false }), async (req, res) => {
  await events.broadcast({ event: 'note', data: req.body });
  res.sendStatus(204);
});
await running(app.listen(process.env.PORT ?? 3000), () => events.close());
