/*
 * A log that survives a restart, without a server: for one process, or several of one machine.
 *
 *   npx tsx examples/one-machine.ts            the log is in ./data/events
 *   curl -N http://localhost:3000/events
 *   curl -H 'Content-Type: application/json' -d '"Milk is out"' http://localhost:3000/notes
 */
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';
import { lmdbJournal } from '../lib/journal/lmdb/index.ts';

const events = sse({ history: lmdbJournal('./data/events') });

const app = express();
app.use('/events', events);
// #endregion docs

app.post('/notes', express.json({ strict: false }), async (req, res) => {
  res.json({ id: await events.broadcast({ event: 'note', data: req.body }) });
});

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
