// The peers: each starts a run from a source, and serves it to readers below /runs, as its documentation shows.
// Invariant: a run is started without a reader, so every reader of a measurement is a late one.
import { createClient } from 'redis';
import { sse } from '../../.tmp/esm/index.js';
import { redisRuns } from '../../.tmp/esm/journal/redis/index.js';
import { runs } from '../../.tmp/esm/runs/index.js';
import { frame } from './tokens.mjs';

const encoder = new TextEncoder();
const open = (url) => createClient({ url }).connect();

/**
 * Each returns `start(id, source)`, where `source(signal)` makes the tokens; `serve(app)`; `stop(id)`, if any process can; and `unfinished()`, the number of started runs whose end is not in the store, if the peer reports it.
 */
export const peers = {
  async ours({ url, batch, maxBytes }) {
    const answers = runs(() => [], { store: redisRuns(await open(url)), batch, maxBytes });
    return {
      start: (id, source) => answers.start(id, (run) => source(run.signal)),
      serve: (app) => app.use('/runs', answers),
      stop: (id) => answers.stop(id),
      unfinished: () => answers.stats().runs.running,
    };
  },

  async 'resumable-stream'({ url }) {
    const { createResumableStreamContext } = await import('resumable-stream');
    const [publisher, subscriber] = await Promise.all([open(url), open(url)]);
    const context = createResumableStreamContext({ waitUntil: null, publisher, subscriber });
    return {
      async start(id, source) {
        const stream = await context.createNewResumableStream(id, () => ReadableStream.from(framed(source)));
        await stream.cancel(); // of the client that asked; the package continues to read the source
      },
      serve: (app) =>
        app.get('/runs/:id', async (req, res) => {
          const stream = await context.resumeExistingStream(req.params.id, Number(req.query.skip ?? 0));
          if (stream) await pipe(stream, res);
          else res.status(204).end();
        }),
      unfinished: () => 0,
    };
  },

  async 'assistant-stream'({ url }) {
    const { createResumableStreamContext } = await import('assistant-stream/resumable');
    const { createRedisResumableStreamStore } = await import('assistant-stream/resumable/redis');
    let unfinished = 0;
    const store = createRedisResumableStreamStore(await open(url));
    const context = createResumableStreamContext({ store, onFinalize: () => void unfinished-- });
    return {
      async start(id, source) {
        unfinished++;
        const stream = await context.run(id, () =>
          ReadableStream.from(framed(source)).pipeThrough(
            new TransformStream({ transform: (text, controller) => controller.enqueue(encoder.encode(text)) }),
          ),
        );
        await stream.cancel();
      },
      serve: (app) =>
        app.get('/runs/:id', async (req, res) => {
          const stream = await context.resume(req.params.id);
          if (stream) await pipe(stream, res);
          else res.status(204).end();
        }),
      /** It has no stop, but the source of a deleted run is cancelled when its next token is refused. */
      stop: (id) => context.delete(id),
      unfinished: () => unfinished,
    };
  },

  /** No run: the same tokens as broadcasts of `sse()`. */
  async broadcast() {
    const events = sse();
    return {
      async start(id, source) {
        void (async () => {
          for await (const token of source()) events.broadcast({ data: token });
        })();
      },
      serve: (app) => app.use('/runs/:id', events),
      unfinished: () => 0,
    };
  },
};

async function* framed(source) {
  for await (const token of source()) yield frame(token);
}

/** Writes a web stream to a response, as fast as the client reads. */
async function pipe(stream, res) {
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' }).flushHeaders();
  const reader = stream.getReader();
  let wake = () => {};
  res.on('drain', () => wake());
  res.on('close', () => {
    wake();
    reader.cancel().catch(() => {});
  });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return res.end();
    if (!res.write(value) && !res.destroyed) await new Promise((resolve) => (wake = resolve));
  }
}
