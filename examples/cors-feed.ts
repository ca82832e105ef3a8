/*
 * A stream for pages of other origins, with their cookies or a bearer token. Any other origin receives 403 before the
 * handler runs.
 *
 *   npx tsx examples/cors-feed.ts
 *   curl -N -H 'Origin: https://app.example' -H 'Cookie: user=ada' -i http://localhost:3000/events
 *
 * In the page: new EventSource('https://api.example/events', { withCredentials: true })
 */
import express from 'express';
import { running } from './running.ts';
// #region docs
import { sse } from '../lib/index.ts';

const events = sse(
  (conn, req) => {
    conn.push({ event: 'you', data: req.get('authorization') ?? req.get('cookie') ?? 'unknown' });
  },
  { cors: { origin: ['https://app.example', /^https:\/\/[\w-]+\.app\.example$/], credentials: true } },
);
// #endregion docs

const app = express();
app.use('/events', events);

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
