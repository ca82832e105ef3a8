/*
 * A server that a process manager starts and stops: pm2, systemd, Docker or Kubernetes. The other files of this folder are the
 * configurations of these, and a program that checks the health of the server.
 *
 *   npx tsx examples/deploying/server.ts
 *   node examples/deploying/health-check.mjs && echo healthy
 */
import { running } from '../running.ts';
// #region docs
import express from 'express';
import { sse } from '../../lib/index.ts';

const { PORT = 3000, CLOSE_OVER_MS = 5000 } = process.env;
const app = express();
const events = sse();
let isStopping = false;
app.use('/events', events);
app.get('/health', (_req, res) => void res.sendStatus(isStopping ? 503 : 200));
const server = app.listen(PORT, () => process.send?.('ready')); // for wait_ready of pm2

async function stop() {
  if (isStopping) return;
  isStopping = true;
  await events.close({ over: Number(CLOSE_OVER_MS) });
  server.close(() => process.exit(0)); // pm2's channel to the process would keep it alive
  setTimeout(() => server.closeAllConnections(), 1000);
}
process.on('SIGTERM', stop); // systemd, Docker, Kubernetes
process.on('SIGINT', stop); // pm2, and Ctrl+C
// #endregion docs

await running(server);
