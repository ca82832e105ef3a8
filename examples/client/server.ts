/*
 * Pages that use the client: a typed stream, one stream for all tabs with a token, and an answer that is read with `for await`.
 *
 *   npx tsx examples/client/server.ts
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea","count":2}' http://localhost:3000/orders
 */
import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import express, { type RequestHandler } from 'express';
import { sse } from '../../lib/index.ts';
import { bundled } from '../browser-client.ts';
import { running } from '../running.ts';
import { events, sell } from './feed.ts';

const here = dirname(fileURLToPath(import.meta.url));
const app = express();

// A token is good for one connection, so that the page needs a fresh one every time it connects.
const tokens = new Set<string>();
app.get('/token', (_req, res) => {
  const token = randomUUID();
  tokens.add(token);
  res.send(token);
});
const signedIn: RequestHandler = (req, res, next) => {
  if (tokens.delete(req.get('authorization')?.replace('Bearer ', '') ?? '')) next();
  else res.sendStatus(401);
};

app.use('/events', events);
app.use('/private', signedIn, events);
app.post('/orders', express.json(), async (req, res) => {
  await sell(String(req.body.item), Number(req.body.count));
  res.sendStatus(204);
});

const answers = sse(
  async function* (_conn, req) {
    for (const token of ['You', ' asked', ':', ' ', req.body.question, ' 12']) {
      await pause(20);
      yield token;
    }
  },
  { methods: ['POST'], history: false },
);
app.use('/answers', express.json(), answers);

for (const [path, script] of [
  ['/', 'page.ts'],
  ['/account', 'account.ts'],
  ['/answer', 'answer.ts'],
] as const) {
  app.get(path, (_req, res) => {
    // The position comes before the state of the page is loaded: what happens in between is replayed.
    res.send(`<!doctype html><title>${script}</title><body data-position="${events.position}">
<p id="status"></p><ul id="orders"></ul><p id="answer"></p><script type="module" src="/${script}/page.js"></script>`);
  });
  app.use(`/${script}`, await bundled(join(here, script)));
}

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
