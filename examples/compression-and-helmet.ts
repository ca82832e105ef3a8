/*
 * Common middleware in front of a stream: helmet's headers stay, and compression() does not hold events back.
 * The `compress` option makes the router gzip the stream itself. It deflates each broadcast once for all connections.
 *
 *   npx tsx examples/compression-and-helmet.ts
 *   curl -N --compressed -i http://localhost:3000/events
 */
import { running } from './running.ts';
// #region docs
import compression from 'compression';
import express from 'express';
import helmet from 'helmet';
import { sse } from '../lib/index.ts';

const events = sse({ compress: true });

const app = express();
app.use(helmet(), compression());
app.use('/events', events);
// #endregion docs

app.post('/messages', express.text(), async (req, res) => {
  res.status(201).json({ id: await events.broadcast(req.body) });
});

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
