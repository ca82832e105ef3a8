/*
 * The server under test: one application with a router for each behaviour. It runs in the runtime, with the middleware and behind the
 * instrumentation of one subject. It is copied to the folder in which the subject's packages are installed.
 * Invariant: it is controlled by lines of JSON on its standard input and output, which no middleware sees.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { memoryJournal, sse } from 'sse-router';
import { bridges, fronts, servers } from './fronts.mjs';

const {
  framework = 'express',
  front,
  server = 'http',
  headers = {},
  lmdbPath,
  redisPort,
  certificate,
} = JSON.parse(process.env.COMPATIBILITY);
const require = createRequire(import.meta.url);
const { default: imported } = await import(framework);
const express = bridges[server] === undefined ? imported : await bridges[server](imported);

const quiet = { retry: 1000, heartbeat: false, headers };
const tenant = new AsyncLocalStorage();
const errors = [];
const onError = (error) => errors.push(error.message);
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The query of a request. Without an Express application, `req.query` does not exist. */
const queryOf = ({ url }) => Object.fromEntries(new URL(url, 'http://x').searchParams);

function handle(conn, req) {
  const { join, push } = queryOf(req);
  if (join) conn.join(join);
  if (push) conn.push(push);
}

async function* answer(_conn, req) {
  yield 'one';
  await later(20);
  yield 'two';
  if ('fail' in queryOf(req)) throw new Error('of the handler');
}

const page = 'https://page.example';
const routers = {
  events: sse(handle, { ...quiet, heartbeat: 250, onError }),
  cors: sse(handle, { ...quiet, cors: { origin: page, credentials: true } }),
  // The handlers of many clients settle in the same tick.
  contexts: sse(() => later(50), { ...quiet, snapshot: () => ({ data: String(tenant.getStore()) }) }),
  answers: sse(answer, { ...quiet, methods: ['GET', 'POST'], onError }),
  posts: sse(answer, { ...quiet, methods: ['POST'], onError }),
  slow: sse(handle, { ...quiet, slowTimeout: 400, history: memoryJournal({ maxBytes: 2 ** 26 }) }),
  refuses: sse(async () => Promise.reject(new Error('of the handler')), quiet),
  closes: sse(handle, quiet),
  commonjs: require('sse-router').sse(handle, quiet),
};
const missing = {};
async function optional(name, make) {
  try {
    routers[name] = await make();
  } catch (error) {
    missing[name] = String(error.message).split('\n')[0];
  }
}
await optional('gzip', () => sse(handle, { ...quiet, compress: true }));
if (lmdbPath !== undefined) {
  await optional('lmdb', async () => {
    const { lmdbJournal } = await import('sse-router/lmdb');
    const history = lmdbJournal(lmdbPath);
    await history.open();
    return sse(handle, { ...quiet, history });
  });
}
if (redisPort !== undefined) {
  const { redisJournal } = await import('sse-router/redis');
  const clients = {
    ioredis: async () => new (await import('ioredis')).Redis(redisPort, '127.0.0.1', { lazyConnect: true }),
    noderedis: async () => (await import('redis')).createClient({ url: `redis://127.0.0.1:${redisPort}` }),
  };
  for (const [name, make] of Object.entries(clients)) {
    await optional(name, async () => {
      const history = redisJournal(await make(), { key: `${name}:${process.pid}` });
      await history.open();
      return sse(handle, { ...quiet, history });
    });
  }
}

const app = express();
app.set?.('env', 'test'); // Express prints no errors
let requests = 0;
app.use((_req, _res, next) => {
  requests++;
  next();
});
if (front !== undefined) await fronts[front](app, express);
app.use('/contexts', (req, _res, next) => tenant.run(queryOf(req).who, next));
for (const [name, router] of Object.entries(routers)) app.use(`/${name}`, router);
app.get('/plain', (_req, res) => void res.end('plain'));
// oxlint-disable-next-line no-unused-vars -- Express recognises an error handler by its four parameters
app.use((error, _req, res, _next) => {
  res.statusCode = 500;
  res.end('refused');
});

const listener = server === 'http' ? createServer(app) : await servers[server](app, certificate);
listener.listen(0, '127.0.0.1', () => print({ port: listener.address().port, missing, version: versionOf() }));

const actions = {
  stats: (router) => router.stats(),
  size: (router) => router.size,
  broadcast: (router, ...args) => router.broadcast(...args),
  disconnect: (router, ...args) => router.disconnect(...args),
  close: (router) => router.close(),
  push: (router, ...args) => void [...router.connections].map((conn) => conn.push(...args)),
  flood: (router, bytes) =>
    void [...router.connections].map((conn) => conn.push(randomBytes(bytes / 2).toString('hex'))),
  closeAll: (router) => void [...router.connections].map((conn) => conn.close({ retry: 50 })),
  requests: () => requests,
  spans: () => globalThis.exportedSpans,
  end: (router) => void [...router.connections].map((conn) => conn.end()),
  errors: () => errors.splice(0),
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { n, router, action, args } = JSON.parse(line);
  try {
    print({ n, result: await actions[action](routers[router], ...args) });
  } catch (error) {
    print({ n, error: String(error) });
  }
});

function print(value) {
  process.stdout.write(`\n@${JSON.stringify(value)}\n`);
}

function versionOf() {
  const { bun, deno, node } = process.versions;
  return bun ?? deno ?? node;
}
