/*
 * Builds of a project with hand-written `res.write`: what res-write-after.ts replaces. It has a heartbeat and a log.
 *
 *   npx tsx examples/migrating/res-write-before.ts
 *   curl -N http://localhost:3000/events
 *   curl -X POST http://localhost:3000/builds/main
 */
import { running } from '../running.ts';
// #region docs
import express, { type Response } from 'express';

const app = express();
const clients = new Set<Response>();
const log: { id: number; text: string }[] = [];
let last = 0;

app.get('/events', (req, res) => {
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache', 'X-Accel-Buffering': 'no' });
  res.write(': hello\n\n');
  const since = Number(req.get('Last-Event-ID') ?? last);
  for (const { id, text } of log) if (id > since) res.write(text);
  const heartbeat = setInterval(() => res.write(': heartbeat\n\n'), 15_000);
  clients.add(res);
  res.on('close', () => {
    clearInterval(heartbeat);
    clients.delete(res);
  });
});

function send(event: string, data: unknown) {
  const id = ++last;
  const text = `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  log.push({ id, text });
  if (log.length > 100) log.shift();
  for (const client of clients) client.write(text);
}

app.post('/builds/:branch', (req, res) => {
  send('build', { branch: req.params.branch, at: new Date() });
  res.sendStatus(204);
});

const server = app.listen(process.env.PORT ?? 3000);
// #endregion docs

await running(server, async () => server.closeAllConnections());
