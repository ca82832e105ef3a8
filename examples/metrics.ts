/*
 * The counters, gauges and durations of a router, for Prometheus.
 *
 *   npx tsx examples/metrics.ts
 *   curl -N http://localhost:3000/events
 *   curl http://localhost:3000/metrics
 */
import { running } from './running.ts';
// #region docs
import express from 'express';
import { register } from 'prom-client';
import { sse } from '../lib/index.ts';
import { metrics } from '../lib/metrics/index.ts';

const app = express();
const events = sse();
app.use('/events', events);
metrics(events); // into prom-client's global registry, or pass a registry of your own
app.get('/metrics', async (_req, res) => {
  res.type(register.contentType).send(await register.metrics());
});
// #endregion docs

const ticking = setInterval(() => void events.broadcast({ event: 'tick', data: new Date() }), 1000);

await running(app.listen(process.env.PORT ?? 3000), async () => {
  clearInterval(ticking);
  await events.close();
});
