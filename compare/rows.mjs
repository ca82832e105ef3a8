// The rows of the comparison. Each one answers with `yes`, or with what happened instead. `-` is for what a peer does not offer.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Missing, parsed, pause, readOverHttp2, until } from './scene.mjs';

const MIB = 2 ** 20;
/** 100 MiB in pieces of 64 KiB. */
const FLOOD = 1600;
const shorten = (value) => JSON.stringify(value).slice(0, 60).replaceAll('|', '\\|');

/** A message whose field contains an attack: the call throws, or the client receives nothing but one event with the data `x`. */
const injection = (message) => async (scene) => {
  const app = await scene.start({ text: true, ids: message.id !== undefined });
  const stream = await app.join();
  try {
    await app.broadcast({ ...message, data: 'x' });
  } catch (error) {
    if (error instanceof Missing) throw error;
    return 'yes, throws';
  }
  await pause(200);
  const [first] = stream.values;
  if (stream.events.some(({ data }) => data.includes('injected'))) return `no: ${shorten(first)} arrives`;
  if (stream.lastEventId === '99') return 'no: the client has the injected id';
  return stream.values.length === 1 && first === 'x' ? 'yes, removed' : `no: ${stream.values.length} events arrive`;
};

/** A text that is not sent as JSON, and the text that a client must read. */
const text = (sent, expected) => async (scene) => {
  const app = await scene.start({ text: true });
  if (!app.offers.text) {
    const stream = await app.join();
    await app.broadcast({ data: sent });
    await stream.received(1);
    return stream.values.length === 1 && stream.values[0] === sent ? 'yes, as JSON' : 'no';
  }
  const stream = await app.join();
  await app.broadcast({ data: sent });
  await pause(200);
  const got = stream.events.filter(({ event }) => event !== 'checkpoint').map(({ data }) => data);
  return got.length === 1 && got[0] === expected ? 'yes' : `no: ${shorten(got.length === 1 ? got[0] : got)}`;
};

/** Broadcasts numbers; each has an id if the application has to give one. */
const numbered = (app, from, count) => app.call('numbers', { from, count, withIds: app.offers.ownIds === true });
const LOST = 'no: nothing, without notice';

/** What a client that returns with an id receives: a reset, or so many events. */
async function answerTo(app, lastEventId) {
  const stream = await app.join('/events', { headers: { 'Last-Event-ID': lastEventId } });
  await pause(300);
  if (stream.named('reset').length > 0) return 'yes, a `reset`';
  return stream.values.length;
}

/** Connects, receives three events, disconnects, misses three more, and returns. */
async function resumed(scene, { before = {}, restart } = {}) {
  let app = await scene.start(before);
  const stream = await app.join();
  await numbered(app, 1, 3);
  await stream.received(3);
  const { lastEventId } = stream;
  if (lastEventId === '') return '-';
  stream.close();
  await until(async () => (await app.size()) === 0);
  await numbered(app, 4, 3);
  if (restart) {
    await app.end();
    app = await scene.start(restart);
  }
  const back = await app.join('/events', { headers: { 'Last-Event-ID': lastEventId } });
  await back.received(3, 500);
  const got = back.values;
  if (got.join() === '4,5,6') return 'yes';
  return got.length === 0 ? LOST : `no: ${shorten(got)} instead of [4,5,6]`;
}

/** Whether a peer replays anything: by itself, or with the log that its documentation shows. */
const canResume = (app) => app.peer === 'sse-router' || app.peer === 'sse-channel' || app.offers.ownLog === true;
const byOwnLog = (app, answer) =>
  app.offers.ownLog && answer.startsWith('yes') ? `${answer}, with a log of the application` : answer;

/** A client that reads nothing, while 100 MiB are broadcast in pieces of 64 KiB to it and to a client that reads. */
async function flooded(scene, hasStalled) {
  const app = await scene.start({ text: true });
  const reader = await app.join();
  const stalled = hasStalled ? await app.join('/events', { isPaused: true }) : undefined;
  stalled?.pause();
  const stalledAt = performance.now();
  const before = await app.call('memory');
  let isComplete = true;
  for (let n = 16; n <= FLOOD && isComplete; n += 16) {
    await app.call('flood', { count: 16, bytes: 65_536 });
    isComplete = (await reader.received(n, 5000)) !== undefined; // a client at the speed of the broadcasts
  }
  const held = ((await app.call('memory')) - before) / MIB;
  return { app, held, isComplete, stalled, stalledAt };
}

const has = (header = '', ...parts) => parts.every((part) => header.toLowerCase().includes(part));

export const rows = [
  // ---- Bytes
  ['Bytes'],
  ['a line end in `event` adds no field', injection({ event: 'a\nid: 99\ndata: injected' })],
  ['a line end in `id` adds no field', injection({ id: '1\ndata: injected' })],
  ['a CR in `event` adds no field', injection({ event: 'a\rid: 99\rdata: injected' })],
  ['a CR in `id` adds no field', injection({ id: '1\rdata: injected' })],
  [
    'an `id` with NUL, which clients ignore, is refused',
    async (scene) => {
      const app = await scene.start({ ids: true });
      const stream = await app.join();
      try {
        await app.broadcast({ id: 'a\0b', data: 'x' });
      } catch (error) {
        if (error instanceof Missing) throw error;
        return 'yes, throws';
      }
      await stream.received(1);
      return 'no: it is sent, and the client keeps its earlier id';
    },
  ],
  ['a text of several lines arrives whole', text('one\ntwo\r\nthree', 'one\ntwo\nthree')],
  ['a CR in a text arrives as a line end', text('one\rdata: two', 'one\ndata: two')],
  ['a blank line in a text does not end the event', text('one\n\nevent: x\ndata: two', 'one\n\nevent: x\ndata: two')],
  [
    'data that JSON cannot hold (a function) is refused',
    async (scene) => {
      const app = await scene.start();
      const stream = await app.join();
      try {
        await app.broadcast({ data: '$function' });
      } catch {
        return 'yes, throws';
      }
      await pause(200);
      if (app.isDead) return 'no: the process ends';
      const [refusal] = await app.call('refusals');
      if (refusal) return 'no: an unhandled rejection';
      return stream.events.length === 0 ? 'no: nothing arrives' : `no: ${shorten(stream.values[0])} arrives`;
    },
  ],

  // ---- HTTP
  ['HTTP'],
  [
    'head and a first byte are sent at once (Firefox fires `open` with the first byte)',
    async (scene) => {
      const app = await scene.start();
      const stream = await app.join();
      await until(() => stream.firstByteAt !== undefined, 500);
      if (stream.firstByteAt !== undefined) return 'yes';
      return stream.status > 0 ? 'the head only' : 'no: nothing before the first event';
    },
  ],
  [
    'HEAD is answered, and opens no stream',
    async (scene) => {
      const app = await scene.start();
      const stream = app.open('/events', { method: 'HEAD' });
      await stream.answered();
      await pause(200);
      if ((await app.size()) > 0) return 'no: it counts as a client until it leaves';
      return stream.status === 0 ? 'no: no answer' : `yes, ${stream.status}`;
    },
  ],
  [
    'a POST to a stream for GET is refused',
    async (scene) => {
      const app = await scene.start();
      const stream = app.open('/events', { method: 'POST', body: '{}' });
      await stream.answered();
      const { status } = stream;
      return status === 405 || status === 404
        ? `yes, ${status}${stream.headers.allow ? ' with `Allow`' : ''}`
        : `no: ${status}`;
    },
  ],
  [
    'a client that accepts only JSON gets 406',
    async (scene) => {
      const app = await scene.start();
      const stream = app.open('/events', { headers: { Accept: 'application/json' } });
      await stream.answered(500);
      if (stream.status === 406) return 'yes';
      return stream.status === 0 || stream.status === 200 ? 'no: a stream' : `no: ${stream.status}`;
    },
  ],
  [
    'one route answers with JSON or with a stream, by `Accept`',
    async (scene) => {
      const app = await scene.start();
      app.needs('/dual');
      const json = app.open('/dual', { headers: { Accept: 'application/json' } });
      const stream = app.open('/dual');
      await Promise.all([json.answered(), stream.answered()]);
      const isRight = has(json.headers['content-type'], 'json') && has(stream.headers['content-type'], 'event-stream');
      return isRight ? 'yes' : 'no';
    },
  ],
  [
    'headers against caches, compressing proxies and nginx: `no-transform`, `X-Accel-Buffering: no`',
    async (scene) => {
      const app = await scene.start();
      const stream = await app.join();
      await app.broadcast({ data: 'x' });
      await stream.answered();
      const missing = [
        has(stream.headers['cache-control'], 'no-transform') ? undefined : 'no-transform',
        has(stream.headers['x-accel-buffering'], 'no') ? undefined : 'X-Accel-Buffering',
      ].filter(Boolean);
      return missing.length === 0 ? 'yes' : `no: without ${missing.join(', ')}`;
    },
  ],
  [
    'behind the usual compression middleware, an event arrives within a second',
    async (scene) => {
      const app = await scene.start({ compression: true });
      const stream = await app.join('/events', { headers: { 'Accept-Encoding': 'gzip' } });
      await app.broadcast({ data: 'x' });
      if (!(await stream.received(1, 1000))) return 'no: nothing arrives';
      return stream.headers['content-encoding'] === 'gzip' ? 'yes, compressed' : 'yes, not compressed';
    },
  ],
  [
    'CORS with credentials: preflight, origin, `Vary`',
    async (scene) => {
      const Origin = 'https://app.example';
      const app = await scene.start({ origins: [Origin, 'https://other.example'] });
      const stream = await app.join('/events', { headers: { Origin } });
      await app.broadcast({ data: 'x' });
      await stream.answered();
      const preflight = app.open('/events', {
        method: 'OPTIONS',
        headers: { Origin, 'Access-Control-Request-Method': 'GET', 'Access-Control-Request-Headers': 'last-event-id' },
      });
      await preflight.answered();
      const missing = [];
      if (stream.headers['access-control-allow-origin'] !== Origin) missing.push('origin');
      if (stream.headers['access-control-allow-credentials'] !== 'true') missing.push('credentials');
      if (!has(stream.headers.vary, 'origin')) missing.push('Vary');
      if (!has(preflight.headers['access-control-allow-headers'], 'last-event-id')) missing.push('preflight');
      if (missing.length > 0) return `no: without ${missing.join(', ')}`;
      return app.offers.corsPackage ? `yes, with \`${app.offers.corsPackage}\`` : 'yes';
    },
  ],
  [
    'a page of another origin gets no stream',
    async (scene) => {
      const app = await scene.start({ origins: ['https://app.example', 'https://other.example'] });
      const stream = app.open('/events', { headers: { Origin: 'https://evil.example' } });
      await stream.answered(500);
      return stream.status >= 400 ? `yes, ${stream.status}` : 'no: it opens, and the browser hides it';
    },
  ],
  [
    'a handler answers with 403 after it has waited',
    async (scene) => {
      const app = await scene.start();
      const stream = app.open('/forbidden');
      await stream.answered();
      return stream.status === 403 ? 'yes' : `no: ${stream.status}`;
    },
  ],
  [
    'an exception before the opening is answered with 500, without its text',
    async (scene) => {
      const app = await scene.start();
      const stream = app.open('/throws');
      await stream.answered();
      await pause(100);
      if (app.isDead) return 'no: the process ends';
      if (stream.body.includes('secret')) return `no: ${stream.status}, with its text`;
      return stream.status === 500 ? 'yes' : `no: ${stream.status}`;
    },
  ],
  [
    'an exception after the opening ends the stream, and its text does not reach the client',
    async (scene) => {
      const app = await scene.start();
      app.needs('/breaks');
      const stream = app.open('/breaks');
      await stream.answered();
      const isOver = await stream.over();
      if (app.isDead) return 'no: the process ends';
      if (stream.body.includes('secret')) return 'no: the text arrives';
      return isOver ? 'yes' : 'no: the stream stays open';
    },
  ],

  // ---- Answers
  ['Answers to a POST, and sources'],
  [
    'a POST whose body was read before the stream opens',
    async (scene) => {
      const app = await scene.start();
      app.needs('/answers');
      const stream = app.open('/answers', { method: 'POST', body: '{"prompt":"x"}' });
      await stream.over(2000);
      const got = stream.named('token').map(({ data }) => parsed(data));
      return got.join() === 'a,b' ? 'yes' : `no: ${shorten(got)} instead of ["a","b"]`;
    },
  ],
  [
    'a POST whose body the handler reads after the stream has opened',
    async (scene) => {
      const app = await scene.start();
      app.needs('/late');
      const stream = app.open('/late', { method: 'POST', body: '{"prompt":"x"}' });
      await stream.over(2000);
      const got = stream.named('token').map(({ data }) => parsed(data));
      return got.join() === 'a,b' ? 'yes' : `no: ${shorten(got)} instead of ["a","b"]`;
    },
  ],
  [
    'a source of 62 MiB waits for a client that does not read',
    async (scene) => {
      const app = await scene.start({ text: true });
      app.needs('/items');
      const before = await app.call('memory');
      const stream = app.open('/items', { isPaused: true });
      await pause(50);
      stream.pause();
      await pause(2000);
      const { count } = await app.call('produced');
      if (count < 1000) return `yes, after ${((count * 65_536) / MIB).toFixed(1)} MiB`;
      const isHeld = (await app.call('memory')) - before > 31 * MIB;
      return isHeld
        ? 'no: all of it waits in memory'
        : 'no: the source runs to its end, and the client is disconnected';
    },
  ],
  [
    '… and when this client leaves, the source is released',
    async (scene) => {
      const app = await scene.start({ text: true });
      app.needs('/items');
      const stream = app.open('/items', { isPaused: true });
      await pause(50);
      stream.pause();
      await pause(1000);
      stream.close();
      const isFinalized = await until(async () => (await app.call('produced')).isFinalized, 3000);
      const { count } = await app.call('produced');
      if (!isFinalized) return 'no: it waits for ever';
      return count < 1000 ? 'yes' : 'no: it had run to its end';
    },
  ],
  [
    'the server ends a stream for good: the client that returns gets 204',
    async (scene) => {
      const app = await scene.start();
      app.needs('/end');
      const stream = app.open('/end');
      await stream.over();
      const back = app.open('/end', { headers: { 'Last-Event-ID': stream.lastEventId } });
      await back.answered();
      return back.status === 204 ? 'yes' : `no: ${back.status}`;
    },
  ],

  // ---- Slow clients
  ['Slow clients'],
  [
    'memory that one client takes that does not read, at 100 MiB of broadcasts',
    async (scene) => {
      const { held: without } = await flooded(scene, false);
      const { held, isComplete } = await flooded(scene, true);
      scene.notes.isComplete = isComplete;
      return `${Math.max(0, held - without).toFixed(0)} MiB`;
    },
  ],
  [
    '… the other clients receive everything meanwhile',
    async (scene) => ((scene.notes.isComplete ?? (await flooded(scene, true)).isComplete) ? 'yes' : 'no'),
  ],
  [
    '… the server ends its connection within 40 s',
    async (scene) => {
      const { app, stalledAt } = await flooded(scene, true);
      if ((await app.size()) === 1) return 'yes, because of the bytes that wait';
      const ended = await until(async () => (await app.size()) === 1, 40_000);
      if (!ended) return 'no: its queue has no limit';
      return `yes, after ${Math.round((performance.now() - stalledAt) / 1000)} s`;
    },
    'parallel',
  ],
  [
    '… it reads again after the 100 MiB',
    async (scene) => {
      const { app, stalled } = await flooded(scene, true);
      stalled.socket.resume();
      let count = -1;
      while (count < stalled.values.length && !stalled.isOver) {
        count = stalled.values.length;
        await stalled.received(FLOOD, 1000);
      }
      if (stalled.values.length === FLOOD) return 'it receives everything';
      if (stalled.named('reset').length > 0) return 'it receives a `reset` instead of what the log no longer holds';
      if (stalled.isOver) return `it was disconnected, and has the first ${Math.round(stalled.values.length / 16)} MiB`;
      return app.isDead ? 'the process ends' : `it receives ${stalled.values.length} of ${FLOOD} events`;
    },
  ],
  [
    '… it leaves: it is removed, without an error',
    async (scene) => {
      const { app, stalled } = await flooded(scene, true);
      stalled.close();
      const isGone = await until(async () => (await app.size()) <= 1, 3000);
      await app.broadcast({ data: 'after' });
      await pause(100);
      if (app.isDead) return 'no: the process ends';
      const [refusal] = await app.call('refusals');
      if (refusal) return `no: ${refusal.split(':')[0]}`;
      return isGone ? 'yes' : 'no: it is still counted';
    },
  ],

  // ---- Resume
  ['Resume'],
  [
    'every event has an id, which is the same for every client',
    async (scene) => {
      const app = await scene.start();
      const first = await app.join();
      await app.broadcast({ data: 1 });
      await first.received(1);
      const second = await app.join();
      await app.broadcast({ data: 2 });
      await Promise.all([first.received(2), second.received(1)]);
      await pause(50);
      const [a, b] = [first.lastEventId, second.lastEventId];
      if (app.offers.fields.length === 0) return 'no: there are no ids';
      if (a === '') return 'no: the application gives ids';
      return a === b ? 'yes' : 'no: each connection counts for itself';
    },
  ],
  [
    'a client that returns receives what it missed',
    async (scene) => {
      const app = await scene.start();
      if (app.offers.fields.length === 0) return '-';
      return byOwnLog(app, await resumed(scene));
    },
  ],
  [
    '… 2,000 events during 30 reconnections: each once, in order',
    async (scene) => {
      const app = await scene.start({ historySize: 5000 });
      if (!canResume(app)) return '-';
      const got = [];
      let stream = await app.join();
      const done = numbered(app, 1, 2000).then(() => true);
      let isDone = false;
      void done.then(() => (isDone = true));
      for (let n = 0; n < 30 && !isDone; n++) {
        await pause(60);
        stream.close();
        got.push(...stream.values);
        const lastEventId = stream.lastEventId;
        stream = app.open('/events', { headers: { 'Last-Event-ID': lastEventId } });
        await stream.answered();
      }
      await done;
      await until(() => stream.values.at(-1) === 2000, 2000);
      got.push(...stream.values);
      const seen = new Set(got);
      const lost = Array.from({ length: 2000 }, (_, n) => n + 1).filter((n) => !seen.has(n)).length;
      const twice = got.length - seen.size;
      const isOrdered = got.every((n, i) => i === 0 || n > got[i - 1]);
      if (lost === 0 && twice === 0) return byOwnLog(app, isOrdered ? 'yes' : 'no: out of order');
      return `no: ${[lost && `${lost} lost`, twice && `${twice} twice`].filter(Boolean).join(', ')}`;
    },
  ],
  [
    'a client whose missed events are no longer in the log gets a notice',
    async (scene) => {
      const app = await scene.start({ historySize: 10 });
      if (!canResume(app)) return '-';
      const stream = await app.join();
      await numbered(app, 1, 1);
      await stream.received(1);
      stream.close();
      await numbered(app, 2, 30);
      const answer = await answerTo(app, stream.lastEventId);
      if (answer === 30) return 'the log of the application has no limit';
      return typeof answer === 'number' ? `no: ${answer} of 30 events, without notice` : answer;
    },
  ],
  [
    'a client with an id of another server or of an earlier log gets a notice',
    async (scene) => {
      const app = await scene.start();
      if (!canResume(app)) return '-';
      const stream = await app.join();
      await numbered(app, 1, 3);
      await stream.received(3);
      const answer = await answerTo(app, '1b4e28ba-2fa1-41d2-883f-0016d3cca427');
      if (answer === 0) return LOST;
      return typeof answer === 'number' ? `no: all ${answer} events again, without notice` : answer;
    },
  ],
  [
    'a resume after the server has restarted',
    async (scene) => {
      if (scene.peer === 'sse-router') {
        const store = mkdtempSync(join(tmpdir(), 'compare-'));
        try {
          const answer = await resumed(scene, { before: { store }, restart: { store } });
          return answer === 'yes' ? 'yes, with LMDB' : answer;
        } finally {
          rmSync(store, { recursive: true, force: true });
        }
      }
      const app = await scene.start();
      if (!canResume(app)) return '-';
      // What the application has stored, and gives to the new process.
      const stored = [1, 2, 3, 4, 5, 6].map((n) => ({ id: n, data: n }));
      const answer = await resumed(scene, { restart: { stored } });
      return answer === 'yes' ? 'yes, if the application stores the events' : answer;
    },
  ],
  [
    'an event that is broadcast while a handler still waits for its database (200 ms) reaches the client',
    async (scene) => {
      const app = await scene.start({ wait: 200 });
      const stream = app.open('/events');
      await pause(100);
      await app.broadcast({ data: 'early' });
      await until(async () => (await app.size()) > 0 && stream.status > 0, 500);
      await pause(200);
      await app.broadcast({ data: 'late' });
      await stream.received(2, 500);
      return stream.values.join() === 'early,late'
        ? 'yes'
        : `no: ${shorten(stream.values)} instead of ["early","late"]`;
    },
  ],
  [
    'a new client receives the state first, and the others do not receive it again',
    async (scene) => {
      const app = await scene.start({ state: 'now' });
      const first = await app.join();
      await pause(100);
      if (first.events.length === 0) return '-';
      const before = first.named('state').length;
      await app.join();
      await pause(100);
      if (before !== 1) return `no: ${before} times`;
      return first.named('state').length === 1 ? 'yes' : 'no: every client receives it again';
    },
  ],

  // ---- Broadcast
  ['Broadcast'],
  [
    'an event for a channel reaches only its members',
    async (scene) => {
      const app = await scene.start();
      const [inside, outside] = [await app.join('/events?channel=a'), await app.join('/events?channel=b')];
      await app.broadcast({ data: 'x', to: ['a'] });
      await inside.received(1);
      await pause(50);
      return inside.values.length === 1 && outside.values.length === 0 ? 'yes' : 'no';
    },
  ],
  [
    'a client in two channels receives an event for both once',
    async (scene) => {
      const app = await scene.start();
      if (app.offers.channels !== 'several') return '-';
      const stream = await app.join('/events?channel=a&channel=b');
      await app.broadcast({ data: 'x', to: ['a', 'b'] });
      await stream.received(2, 300);
      return stream.values.length === 1 ? 'yes' : `no: ${stream.values.length} times`;
    },
  ],
  [
    'a function decides for each client whether it receives an event',
    async (scene) => {
      const app = await scene.start();
      if (!['better-sse', 'nest'].includes(scene.peer)) return '-';
      const [tea, coffee] = [await app.join('/events?likes=tea'), await app.join('/events?likes=coffee')];
      await app.broadcast({ data: 'x', filter: 'tea' });
      await tea.received(1);
      await pause(50);
      return tea.values.length === 1 && coffee.values.length === 0 ? 'yes' : 'no';
    },
  ],
  [
    '1,000 events arrive in order at two clients',
    async (scene) => {
      const app = await scene.start();
      const streams = [await app.join(), await app.join()];
      for (let n = 0; n < 10; n++) await numbered(app, n * 100 + 1, 100);
      await Promise.all(streams.map((stream) => stream.received(1000, 5000)));
      const expected = Array.from({ length: 1000 }, (_, n) => n + 1).join();
      return streams.every((stream) => stream.values.join() === expected) ? 'yes' : 'no';
    },
  ],
  [
    'how often an object is made into JSON for 50 clients',
    async (scene) => {
      const app = await scene.start();
      const streams = await Promise.all(Array.from({ length: 50 }, () => app.open('/events')));
      await until(async () => (await app.size()) === 50);
      await app.broadcast({ data: '$counted' });
      await Promise.all(streams.map((stream) => stream.received(1)));
      const count = await app.call('serialized');
      return count === 1 ? 'once' : `${count} times`;
    },
  ],
  [
    'a push to a client that has left is no error',
    async (scene) => {
      const app = await scene.start();
      const stream = await app.join();
      stream.close();
      await until(async () => (await app.size()) === 0);
      try {
        await app.call('sendToLast', { data: 'x' });
      } catch (error) {
        if (error instanceof Missing) throw error;
        return 'no: it throws';
      }
      await pause(50);
      return (await app.call('refusals')).length === 0 && !app.isDead ? 'yes' : 'no';
    },
  ],
  [
    '200 clients leave: none is still counted, and there was no warning',
    async (scene) => {
      const app = await scene.start();
      const streams = Array.from({ length: 200 }, () => app.open('/events'));
      await until(async () => (await app.size()) === 200, 5000);
      for (const stream of streams) stream.close();
      await until(async () => (await app.size()) === 0, 3000);
      const size = await app.size();
      const [warning] = await app.call('refusals');
      if (warning) return `no: ${warning.split(':')[0]}`;
      return size === 0 ? 'yes' : `no: ${size} remain`;
    },
  ],

  // ---- Operation
  ['Operation'],
  [
    'a silent stream carries heartbeats by default (35 s)',
    async (scene) => {
      const app = await scene.start();
      const stream = await app.join();
      await pause(100);
      const [comments, events, length] = [stream.comments, stream.events.length, stream.body.length];
      const begun = performance.now();
      if (!(await until(() => stream.body.length > length, 35_000))) return 'no';
      await pause(50);
      const seconds = Math.round((performance.now() - begun) / 1000);
      if (stream.events.length > events) return `after ${seconds} s, as an event`;
      return stream.comments > comments || stream.body.length > length ? `yes, after ${seconds} s` : 'no';
    },
    'parallel',
  ],
  [
    'each client gets its own reconnection delay',
    async (scene) => {
      const app = await scene.start();
      const streams = await Promise.all(Array.from({ length: 5 }, () => app.open('/events')));
      await until(async () => (await app.size()) === 5);
      await app.broadcast({ data: 'x' });
      await Promise.all(streams.map((stream) => stream.received(1)));
      const delays = new Set(streams.map(({ retry }) => retry));
      if (delays.has(undefined)) return 'no: none is sent';
      return delays.size > 1 ? 'yes' : `no: all get ${[...delays][0]} ms`;
    },
  ],
  [
    "a shutdown by the package's own call ends the streams, and the server closes",
    async (scene) => {
      const closes = async (setup) => {
        const app = await scene.start(setup);
        await app.join();
        await app.join();
        return (await Promise.race([app.call('close'), pause(3000)])) !== undefined;
      };
      if (await closes({})) return 'yes';
      // The option of Fastify and Nest.
      return (await closes({ force: true }))
        ? 'only with `forceCloseConnections`, which cuts the sockets'
        : 'no: open after 3 s';
    },
  ],
  [
    'a limit for the connections of one client',
    async (scene) => {
      if (scene.peer !== 'sse-router') return '-';
      const app = await scene.start({ limit: 2 });
      await app.join();
      await app.join();
      const third = app.open('/events');
      await third.answered();
      return third.status === 429 ? 'yes, 429' : `no: ${third.status}`;
    },
  ],
  [
    'two processes: a broadcast in one reaches the clients of the other',
    async (scene) => {
      if (!['sse-router', 'transmit'].includes(scene.peer)) return '-';
      const setup = { redis: scene.redis, redisKey: `compare:${process.pid}` };
      const [first, second] = [await scene.start(setup), await scene.start(setup)];
      const stream = await second.join();
      await pause(300);
      await first.broadcast({ data: 'from the other' });
      return (await stream.received(1, 2000)) ? 'yes, with Redis' : 'no';
    },
  ],
  [
    '… an event that was sent while Redis was unreachable for 0.5 s arrives, in 5 outages',
    async (scene) => {
      if (!['sse-router', 'transmit'].includes(scene.peer)) return '-';
      const setup = { redis: scene.proxiedRedis.url, redisKey: `compare:${process.pid}:b` };
      const [first, second] = [await scene.start(setup), await scene.start(setup)];
      const stream = await second.join();
      await pause(300);
      let arrived = 0;
      let rejected = 0;
      for (let n = 1; n <= 5; n++) {
        scene.proxiedRedis.cut();
        first.broadcast({ data: `meanwhile ${n}` }).catch(() => rejected++);
        await pause(500);
        scene.proxiedRedis.mend();
        if (await until(() => stream.values.includes(`meanwhile ${n}`), 4000)) arrived++;
      }
      if (arrived === 5) return 'yes';
      return `${arrived} arrive${rejected > 0 ? `, ${rejected} broadcasts reject` : ''}`;
    },
  ],

  // ---- Where it runs
  ['Where it runs'],
  [
    'on `node:http` without a framework',
    async (scene) => {
      if (!['better-sse', 'sse-channel'].includes(scene.peer)) return '-';
      const app = await scene.start({ plain: true });
      const stream = await app.join();
      await app.broadcast({ data: 'x' });
      return (await stream.received(1)) ? 'yes' : 'no';
    },
  ],
  [
    'over HTTP/2 in the process (`node:http2`)',
    async (scene) => {
      if (!['better-sse', 'sse-channel', 'fastify', 'transmit'].includes(scene.peer)) return '-';
      const app = await scene.start({ http2: true });
      const isRead = await readOverHttp2(app, () => void app.broadcast({ data: 'over http/2' }).catch(() => {}));
      return isRead ? 'yes' : 'no';
    },
  ],
  [
    'with the Fetch API (Hono, Deno, Bun)',
    async (scene) => {
      const app = await scene.start();
      return (await app.call('fetch')) ? 'yes' : 'no';
    },
  ],
];
