/*
 * State and its changes on one stream: a client that is new, or was away for too long, first receives the whole state, then
 * the changes.
 *
 *   npx tsx examples/snapshot.ts
 *   curl -N http://localhost:3000/events
 *   curl -X PUT -H 'Content-Type: application/json' -d '{"on":true}' http://localhost:3000/lamps/hall
 */
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

// #region readme
const lamps = new Map<string, boolean>();
const events = sse({ snapshot: () => ({ event: 'lamps', data: Object.fromEntries(lamps) }) });
// #endregion readme

const app = express();
app.use('/events', events);
app.put('/lamps/:name', express.json(), async (req, res) => {
  lamps.set(req.params.name!, req.body.on);
  await events.broadcast({ event: 'lamp', data: { name: req.params.name, on: req.body.on } });
  res.sendStatus(204);
});
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
