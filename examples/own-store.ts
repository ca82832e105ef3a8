/*
 * Resume from the application's own store, an embedded database. The event ids are the keys of the rows, and a returning
 * client receives exactly the rows that it has not seen. New rows come out of the store as well, so one loop serves both.
 *
 *   STORE=./notes npx tsx examples/own-store.ts
 *   curl -N -H 'Last-Event-ID: 2' http://localhost:3000/events
 *   curl -H 'Content-Type: application/json' -d '"Milk is out"' http://localhost:3000/notes
 */
import { EventEmitter, on } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import { open } from 'lmdb';
import { running } from './running.ts';
// #region docs
import { type Connection, sse } from '../lib/index.ts';

const events = sse(follow, { history: false });

async function follow(conn: Connection) {
  conn.open();
  await conn.pushAll(rows(Number(conn.lastEventId) || 0, conn.signal));
}

async function* rows(last: number, signal: AbortSignal) {
  const inserts = on(changes, 'insert', { signal }); // listens before the first read, so that no row is missed in between
  do yield* notes.getRange({ start: last + 1 }).map(({ key, value }) => ({ id: (last = key), data: value }));
  while (!(await inserts.next()).done);
}
// #endregion docs

const changes = new EventEmitter().setMaxListeners(0); // emits 'insert' after each new row
const notes = open<string, number>({ path: process.env.STORE ?? mkdtempSync(join(tmpdir(), 'notes-')) });

const app = express();
app.use('/events', events);
app.post('/notes', express.json({ strict: false }), async (req, res) => {
  const id = await notes.transaction(() => {
    const [last = 0] = notes.getKeys({ reverse: true, limit: 1 });
    notes.putSync(last + 1, String(req.body));
    return last + 1;
  });
  changes.emit('insert');
  res.status(201).json({ id });
});

await running(app.listen(process.env.PORT ?? 3000), async () => {
  await events.close();
  await notes.close();
});
