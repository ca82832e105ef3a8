/*
 * What the two examples with several servers share: a page that lists the events and counts missing ones, a route that
 * broadcasts a note, and a route that kills the server that receives the request. They listen on the loopback interface only.
 */
import type { AddressInfo } from 'node:net';
import express from 'express';
import type { SseRouter } from '../lib/index.ts';
import { running } from './running.ts';

/** Serves the page and the stream. Every second it broadcasts a tick with its own count. Resolves with its port once it listens. */
export async function serve(events: SseRouter, port: number | string): Promise<number> {
  const app = express();
  app.use('/events', events);
  app.get('/', (_req, res) => void res.type('html').send(PAGE));
  app.post('/notes', express.text({ type: () => true }), async (req, res) => {
    const id = await events.broadcast({ event: 'note', data: String(req.body) });
    res.status(201).json({ id, server: process.pid });
  });
  app.post('/kill', (_req, res) => {
    res.on('finish', () => process.kill(process.pid, 'SIGKILL'));
    res.json({ server: process.pid });
  });

  let n = 0;
  const ticking = setInterval(() => {
    // This fails only if the log cannot be reached. The tick then keeps its number for the next try.
    events.broadcast({ event: 'tick', data: { server: process.pid, n: n + 1 } }).then(
      () => n++,
      () => {},
    );
  }, 1000);
  const server = app.listen(Number(port), '127.0.0.1');
  server.once('close', () => process.connected && process.disconnect()); // the channel to the parent would keep the process alive
  await running(server, async () => {
    clearInterval(ticking);
    await events.close();
  });
  return (server.address() as AddressInfo).port;
}

const PAGE = `<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <title>Several servers, one stream</title>
  <style>body { font: 1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto } #lamp { font-weight: bold }</style>
  <h1>Several servers, one stream</h1>
  <p><span id="lamp" role="status">connecting</span> · <span id="count">0</span> events, <span id="gaps">0</span> missing</p>
  <form><input name="text" required placeholder="A note for everyone"> <button>Send</button>
  <button id="kill" type="button">Kill a server</button></form>
  <ol id="list" reversed></ol>
  <script>
    const at = (id) => document.getElementById(id);
    const last = {}; // the last tick of each server
    const events = new EventSource('/events');
    const show = (text) => {
      at('count').textContent++;
      at('list').prepend(Object.assign(document.createElement('li'), { textContent: text }));
      at('list').children[30]?.remove();
    };
    events.onopen = () => (at('lamp').textContent = 'connected');
    events.onerror = () => (at('lamp').textContent = 'reconnecting');
    events.addEventListener('note', ({ data }) => show(data));
    events.addEventListener('tick', ({ data }) => {
      const { server, n } = JSON.parse(data);
      if (server in last) at('gaps').textContent = +at('gaps').textContent + Math.max(0, n - last[server] - 1);
      last[server] = n;
      show('tick ' + n + ' of server ' + server);
    });
    events.addEventListener('reset', () => show('reset: missed events are lost, so a page would fetch its state again here'));
    document.forms[0].onsubmit = (event) => {
      event.preventDefault();
      fetch('/notes', { method: 'POST', body: event.target.text.value });
      event.target.reset();
    };
    at('kill').onclick = () => fetch('/kill', { method: 'POST' });
  </script>
</html>
`;
