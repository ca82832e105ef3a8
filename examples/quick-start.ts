/*
 * The smallest program: a stream that sends one event to every client that connects.
 *
 *   npx tsx examples/quick-start.ts
 *   curl -N http://localhost:3000/events
 */
import { running } from './running.ts';
// #region readme
import express from 'express';
import { sse } from '../lib/index.ts';

const app = express();
const events = sse((conn) => {
  conn.push('hello');
});
app.use('/events', events);
const server = app.listen(process.env.PORT ?? 3000);
// #endregion readme

await running(server, () => events.close());
