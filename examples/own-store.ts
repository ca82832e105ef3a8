/*
 * Resuming from the application's own store, an embedded database: the ids are its keys, and a client that comes back
 * gets exactly the rows that it has not seen. What is live comes out of the store as well, so there is one path and no seam.
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
// #region readme
import { type Connection, sse } from '../lib/index.ts';

const events = sse(follow, { history: false });

async function follow(conn: Connection) {
  conn.open();
  await conn.pushAll(rows(Number(conn.lastEventId) || 0, conn.signal));
}

async function* rows(last: number, signal: AbortSignal) {
  const rings = on(bell, 'row', { signal }); // listens before it reads, so nothing slips between
  do yield* notes.getRange({ start: last + 1 }).map(({ key, value }) => ({ id: (last = key), data: value }));
  while (!(await rings.next()).done);
}
// #endregion

const bell = new EventEmitter().setMaxListeners(0); // rings when a row is in the store
const notes = open<string, number>({ path: process.env.STORE ?? mkdtempSync(join(tmpdir(), 'notes-')) });

const app = express();
app.use('/events', events);
app.post('/notes', express.json({ strict: false }), async (req, res) => {
  const id = await notes.transaction(() => {
    const [last = 0] = notes.getKeys({ reverse: true, limit: 1 });
    notes.putSync(last + 1, String(req.body));
    return last + 1;
  });
  bell.emit('row');
  res.status(201).json({ id });
});

await running(app.listen(process.env.PORT ?? 3000), async () => {
  await events.close();
  await notes.close();
});
