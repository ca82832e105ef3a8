/*
 * Builds of a project, after the move from res-write-before.ts. The heartbeat, the log and the ids are the router's.
 *
 *   npx tsx examples/migrating/res-write-after.ts
 *   curl -N http://localhost:3000/events
 *   curl -X POST http://localhost:3000/builds/main
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { sse } from '../../lib/index.ts';

const app = express();
const events = sse({ history: { size: 100 } });
app.use('/events', events);

app.post('/builds/:branch', async (req, res) => {
  await events.broadcast({ event: 'build', data: { branch: req.params.branch, at: new Date() } });
  res.sendStatus(204);
});

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, () => events.close());
