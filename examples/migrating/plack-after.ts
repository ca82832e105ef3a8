/*
 * A board of departures, after the move from Plack::App::EventSource. Each client receives the departures, and the stream ends.
 *
 *   npx tsx examples/migrating/plack-after.ts
 *   curl -N http://localhost:3000/departures
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { sse } from '../../lib/index.ts';

const app = express();
const departures = ['10:05 Oslo', '10:20 Bergen'];
const board = sse(
  (conn) => {
    conn.push(...departures); // one event of two lines
    conn.push({ event: 'count', id: departures.length, data: departures.length });
    conn.close();
  },
  { cors: { origin: 'https://app.example' }, history: false }, // the ids are those of the program
);
app.use('/departures', board);

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, () => board.close());
