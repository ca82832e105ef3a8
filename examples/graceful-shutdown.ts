/*
 * A deployment without lost events: the streams end one after another, and each client receives its own reconnection delay.
 *
 *   npx tsx examples/graceful-shutdown.ts
 *   curl -N http://localhost:3000/events
 *   kill -TERM <pid>
 */
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const app = express();
const events = sse((conn) => {
  conn.push(`served by process ${process.pid}`);
});
app.use('/events', events);
const clock = setInterval(() => void events.broadcast({ event: 'time', data: new Date() }), 1000);
const server = app.listen(process.env.PORT ?? 3000);

process.once('SIGTERM', async () => {
  clearInterval(clock); // first stop what broadcasts: after close() a broadcast rejects
  await events.close({ over: 2000 }); // ms: the streams end spread over this time
  server.close();
  setTimeout(() => server.closeAllConnections(), 1000).unref(); // sockets that browsers open in advance
});
// #endregion docs

await running(server);
