/*
 * A feed of the events on this machine and in this folder, at two origins.
 *
 *   npm start                    http://localhost:3000 serves the feed and a page
 *                                http://localhost:3001 serves only the page, which reads the feed across origins
 *   PORT=4000 npm start          uses ports 4000 and 4001
 *   WATCH=~/notes npm start      watches this folder
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import cors from 'cors';
import express, { type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import { browserClient } from '../browser-client.ts';
import { closeServer, listening } from '../running.ts';
import { makeFeed, readerOf } from './feed.ts';
import { watchFolder } from './folder.ts';
import { watchMachine } from './machine.ts';

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, 'page');
const plot = dirname(createRequire(import.meta.url).resolve('uplot/dist/uPlot.esm.js'));
const html = readFileSync(join(page, 'index.html'), 'utf8');
const client = await browserClient();

// The ports come first, because each origin needs the address of the other.
const port = Number(process.env.PORT ?? 3000);
const absence = Number(process.env.ABSENCE ?? 8000); // ms that the Disconnect button keeps a stream away
const near = await listenAt(port);
const far = await listenAt(port && port + 1);
const nearOrigin = originOf(near);
const farOrigin = originOf(far);

const feed = makeFeed({ origin: farOrigin, credentials: true });

/** The first origin: the stream, the route that publishes, and the page. */
const app = express();
app.disable('x-powered-by');
app.use(policy());
app.use('/events', identify, feed.events);

app.use(cors({ origin: farOrigin, credentials: true }), identify);
app.post('/notices', express.json({ limit: '4kb' }), async (req, res) => {
  const text = typeof req.body?.text === 'string' ? req.body.text.trim() : '';
  if (text === '' || text.length > 280) {
    res.status(400).json({ error: 'A notice is 1 to 280 characters of text.' });
    return;
  }
  const id = await feed.publish({ kind: 'notice', from: readerOf(req), text });
  res.status(201).json({ id });
});

/** The buttons of the page, for its own stream: disconnect for eight seconds, or end it for good. */
app.post('/streams/:id/:how', express.json({ limit: '1kb' }), (req, res, next) => {
  const stream = [...feed.events.connections].find(({ id }) => id === req.params.id);
  if (!stream || readerOf(stream.request) !== readerOf(req)) return next();
  if (req.params.how === 'end') stream.end();
  else if (req.params.how === 'close') stream.close({ retry: absence });
  else return next();
  res.json({ retry: absence });
});
pages(app, '', farOrigin);

/** The second origin: only the page. */
const elsewhere = express();
elsewhere.disable('x-powered-by');
elsewhere.use(policy(nearOrigin));
pages(elsewhere, nearOrigin, nearOrigin);

near.on('request', app);
far.on('request', elsewhere);

const folder = resolve(process.env.WATCH ?? '.');
const unwatchMachine = watchMachine(feed.measure, feed.publish);
const unwatchFolder = await watchFolder(folder, feed.publish);

console.log(`listening on ${nearOrigin}
the same feed from another origin: ${farOrigin}${port ? ' (PORT + 1)' : ''}
the raw stream: curl -N ${nearOrigin}/events
watching ${folder}`);

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stop());

async function stop(): Promise<void> {
  unwatchMachine();
  unwatchFolder();
  await feed.events.close({ over: 500 });
  closeServer(near);
  closeServer(far);
}

function pages(site: Express, feedOrigin: string, otherOrigin: string): void {
  const filled = html
    .replace('data-feed=""', `data-feed="${feedOrigin}"`)
    .replace('data-elsewhere=""', `data-elsewhere="${otherOrigin}"`);
  site.get('/', (_, res) => {
    res.set('Cache-Control', 'no-cache').type('html').send(filled);
  });
  site.use(express.static(page, { index: false }));
  site.use('/sse', client);
  site.use('/vendor', express.static(plot, { index: false }));
}

/** Allows this origin only, and nothing inline. The second origin may also read the feed of the first. */
function policy(feedOrigin = ''): RequestHandler {
  return helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'", ...(feedOrigin ? [feedOrigin] : [])],
        baseUri: ["'none'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
      },
    },
  });
}

/** Names the reader by a random cookie. Both origins share it, because the ports of one host share cookies. */
function identify(...[req, res, next]: Parameters<RequestHandler>): void {
  let reader = /(?:^|;\s*)reader=([0-9a-f]{4})(?:;|$)/.exec(req.headers.cookie ?? '')?.[1];
  if (!reader) {
    reader = randomBytes(2).toString('hex');
    res.cookie('reader', reader, { httpOnly: true, sameSite: 'lax' });
  }
  res.locals.reader = reader;
  next();
}

async function listenAt(at: number): Promise<Server> {
  const server = createServer().listen(at);
  await listening(server, 'npm start');
  return server;
}

function originOf(server: Server): string {
  return `http://localhost:${(server.address() as AddressInfo).port}`;
}
