/*
 * With what people put in front: helmet's headers stay, compression() does not hold events back, and `compress` lets the
 * stream itself be gzipped: each broadcast is deflated once, however many read it.
 *
 *   npx tsx examples/compression-and-helmet.ts
 *   curl -N --compressed -i http://localhost:3000/events
 */
import { running } from './running.ts';
// #region readme
import compression from 'compression';
import express from 'express';
import helmet from 'helmet';
import { sse } from '../lib/index.ts';

const events = sse({ compress: true });

const app = express();
app.use(helmet(), compression());
app.use('/events', events);
// #endregion

app.post('/messages', express.text(), async (req, res) => {
  res.status(201).json({ id: await events.broadcast(req.body) });
});

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
