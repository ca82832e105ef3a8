/*
 * A page that shows the connections, the rates and the last events of a router. The application's own authorisation protects it.
 *
 *   npx tsx examples/inspector.ts
 *   curl -N http://localhost:3000/events
 *   open http://localhost:3000/_events/, as admin with the password `night`
 */
import type { RequestHandler } from 'express';
import { running } from './running.ts';
// #region docs
import express from 'express';
import helmet from 'helmet';
import { sse } from '../lib/index.ts';
import { inspector } from '../lib/inspector/index.ts';

const app = express();
app.use(helmet());
const events = sse((conn) => conn.join('clock'));
app.use('/events', events);
// #region readme
app.use('/_events', requireAdmin, inspector(events, { publish: true }));
// #endregion readme
// #endregion docs

function requireAdmin(...[req, res, next]: Parameters<RequestHandler>): void {
  const expected = `Basic ${Buffer.from(`admin:${process.env.PASSWORD ?? 'night'}`).toString('base64')}`;
  if (req.headers.authorization === expected) next();
  else res.set('WWW-Authenticate', 'Basic realm="events"').sendStatus(401);
}

const ticking = setInterval(() => void events.broadcast({ event: 'tick', data: new Date() }, { to: 'clock' }), 1000);

await running(app.listen(process.env.PORT ?? 3000), async () => {
  clearInterval(ticking);
  await events.close();
});
