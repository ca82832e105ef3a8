/*
 * What the streams count and how long they take, for Prometheus.
 *
 *   npx tsx examples/metrics.ts
 *   curl -N http://localhost:3000/events
 *   curl http://localhost:3000/metrics
 */
import { running } from './running.ts';
// #region readme
import express from 'express';
import { register } from 'prom-client';
import { sse } from '../lib/index.ts';
import { metrics } from '../lib/metrics/index.ts';

const app = express();
const events = sse();
app.use('/events', events);
metrics(events); // into prom-client's registry, or one of your own
app.get('/metrics', async (_req, res) => {
  res.type(register.contentType).send(await register.metrics());
});
// #endregion

const ticking = setInterval(() => void events.broadcast({ event: 'tick', data: new Date() }), 1000);

await running(app.listen(process.env.PORT ?? 3000), async () => {
  clearInterval(ticking);
  await events.close();
});
