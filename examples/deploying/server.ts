/*
 * A server that a process manager starts and stops: pm2, systemd, Docker or Kubernetes. The other files of this folder are the
 * configurations of these, and a program that checks the health of the server.
 *
 *   npx tsx examples/deploying/server.ts
 *   node examples/deploying/health-check.mjs && echo healthy
 */
import { running } from '../running.ts';
// #region docs
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { sse } from '../../lib/index.ts';

const { PORT = 3000, CLOSE_OVER_MS = 5000 } = process.env;
const app = express();
const events = sse();
let isStopping = false;
app.use((_req, res, next) => {
  if (isStopping) res.set('Connection', 'close'); // the client opens its next connection to another process
  next();
});
app.use('/events', events);
app.get('/health', (_req, res) => void res.sendStatus(isStopping ? 503 : 200));
const server = app.listen(PORT, () => process.send?.('ready')); // for wait_ready of pm2

async function stop() {
  if (isStopping) return;
  isStopping = true;
  // A second at least: `server.close()` resets a request that arrives on an idle connection at that moment.
  await Promise.all([events.close({ over: Number(CLOSE_OVER_MS) }), sleep(1000)]);
  server.close(() => {
    // pm2 may just have passed a connection on. A process that still runs refuses it, and pm2 passes it to another one.
    setTimeout(() => process.exit(0), 100);
  });
  setTimeout(() => server.closeAllConnections(), 1000);
}
process.on('SIGTERM', stop); // systemd, Docker, Kubernetes
process.on('SIGINT', stop); // pm2, and Ctrl+C
// #endregion docs

await running(server);
