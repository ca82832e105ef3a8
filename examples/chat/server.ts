/*
 * A chat whose answers continue after a reload, in a second tab, and during a deploy. They are kept in LMDB, so a restarted server
 * still has them.
 *
 *   npm run example:chat                http://localhost:3000 is the chat; /use-chat is the same with useChat of the AI SDK
 *   PORT=4000 DATA=./chat LEASE=2000 npm run example:chat
 */
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import helmet from 'helmet';
import { bundled } from '../browser-client.ts';
import { complete } from '../model.ts';
import { running } from '../running.ts';
import { history, makeChats } from './chats.ts';
import express from 'express';
import { lmdbRuns } from '../../lib/journal/lmdb/index.ts';
import { runs } from '../../lib/runs/index.ts';

const data = process.env.DATA ?? join(tmpdir(), 'sse-router-chat');
const lease = Number(process.env.LEASE ?? 10_000);
const answers = runs((run, req) => complete(req.body.prompt, run.signal, 'section'), {
  id: (req) => req.body?.id, // the page makes it
  store: lmdbRuns(join(data, 'answers')),
  lease,
});

const app = express();
app.use('/answers', express.json({ limit: '16kb' }), answers);

const here = dirname(fileURLToPath(import.meta.url));
const chats = makeChats(join(data, 'chats'), lease);
app.get('/chats/:id/messages', history);
app.use('/chats', express.json({ limit: '10mb' }), chats);
app.use(helmet());
app.use(express.static(join(here, 'page')));
app.get('/use-chat', (_req, res) => {
  res.send('<!doctype html><title>useChat</title><div id="root"></div><script type="module" src="/page.js"></script>');
});
app.use(await bundled(join(here, 'use-chat.tsx')));

// A deploy: answers that are being written have ten seconds to finish.
const wait = Number(process.env.WAIT ?? 10_000);
await running(app.listen(process.env.PORT ?? 3000), async () => {
  await Promise.all([answers.close({ wait }), chats.close({ wait })]);
});
