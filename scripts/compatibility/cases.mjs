/*
 * The common checks. Each receives a server, and throws if the server does not behave as on Node.js without middleware.
 * Invariant: a check opens its own streams, and needs no other check before it, except that `close()` is the last.
 */
import assert from 'node:assert/strict';
import { gunzipSync, constants } from 'node:zlib';

const page = 'https://page.example';
const types = { accept: 'text/event-stream' };

async function checkJournal({ send, call, missing }, router) {
  assert.equal(missing[router], undefined);
  const id = await call(router, 'broadcast', 'seen');
  await call(router, 'broadcast', 'missed');
  const stream = await send(`/${router}`, { headers: { 'last-event-id': id } });
  assert.equal((await stream.event(0)).data, 'missed');
  await call(router, 'broadcast', 'live');
  assert.equal((await stream.event(1)).data, 'live');
}

/** @type {Record<string, { text: string, only?: (settings: object) => boolean, check: (server: object) => Promise<void> }>} */
export const cases = {
  opens: {
    text: 'a stream opens with status 200, `retry` and the position',
    async check({ send }) {
      const stream = await send('/events');
      assert.equal(stream.status, 200);
      assert.match(stream.headers['content-type'], /^text\/event-stream/);
      assert.equal((await stream.event(0)).event, 'checkpoint');
      assert.match(stream.text, /^:\nretry: 1000\n/);
    },
  },
  push: {
    text: 'each push, broadcast and heartbeat arrives at once, and not when a buffer is full',
    async check({ send, call }) {
      const stream = await send('/events?push=first');
      assert.equal((await stream.event(0)).data, 'first');
      await call('events', 'push', 'é€💥\nsecond line');
      assert.equal((await stream.event(1)).data, 'é€💥\nsecond line');
      const id = await call('events', 'broadcast', { event: 'order', data: { n: 1 } });
      assert.deepEqual(await stream.event(2), { event: 'order', data: '{"n":1}', id });
      await stream.until(({ text }) => text.endsWith('\n\n:\n'), 'a heartbeat');
    },
  },
  channels: {
    text: 'a broadcast to a channel reaches its members, and no other connection',
    async check({ send, call }) {
      const [member, other] = [await send('/events?join=a'), await send('/events?join=b')];
      await Promise.all([member.event(0), other.event(0)]);
      await call('events', 'broadcast', 'for a', { to: 'a' });
      await call('events', 'broadcast', 'for all');
      assert.equal((await member.event(1)).data, 'for a');
      assert.equal((await other.event(1)).data, 'for all');
    },
  },
  resume: {
    text: 'a client that returns with its id receives what it missed, once and in order',
    async check({ send, call }) {
      const id = await call('events', 'broadcast', 'seen');
      for (const text of ['one', 'two', 'three']) await call('events', 'broadcast', text);
      const stream = await send('/events', { headers: { 'last-event-id': id } });
      await stream.event(2);
      await call('events', 'broadcast', 'live');
      await stream.event(3);
      assert.deepEqual(
        stream.events.map(({ data }) => data),
        ['one', 'two', 'three', 'live'],
      );
    },
  },
  reset: {
    text: 'a client with a foreign id receives a `reset`',
    async check({ send }) {
      const stream = await send('/events', { headers: { 'last-event-id': '42' } });
      const { event, data } = await stream.event(0);
      assert.deepEqual([event, JSON.parse(data)], ['reset', { reason: 'unknown', lastEventId: '42' }]);
    },
  },
  contexts: {
    text: '`snapshot` runs in the `AsyncLocalStorage` of its request, also when ten clients connect at once',
    async check({ send }) {
      const names = Array.from({ length: 10 }, (_, n) => `user${n}`);
      const streams = await Promise.all(names.map((name) => send(`/contexts?who=${name}`)));
      const snapshots = await Promise.all(streams.map((stream) => stream.event(0)));
      assert.deepEqual(
        snapshots.map(({ data }) => data),
        names,
      );
    },
  },
  cors: {
    text: 'CORS: a preflight is answered, a foreign origin is refused, a stream carries the headers',
    async check({ send }) {
      const asked = { origin: page, 'access-control-request-method': 'GET' };
      const preflight = await send('/cors', { method: 'OPTIONS', headers: asked });
      assert.deepEqual([preflight.status, preflight.headers['access-control-allow-origin']], [204, page]);
      const foreign = await send('/cors', { headers: { origin: 'https://other.example' } });
      assert.equal(foreign.status, 403);
      const stream = await send('/cors', { headers: { origin: page } });
      assert.deepEqual([stream.status, stream.headers['access-control-allow-credentials']], [200, 'true']);
    },
  },
  methods: {
    text: 'HEAD, 405 with `Allow`, 406, and a path below the router',
    async check({ send }) {
      const head = await send('/events', { method: 'HEAD' });
      assert.deepEqual([head.status, await head.ending(), head.text], [200, 'end', '']);
      const put = await send('/events', { method: 'PUT' });
      assert.deepEqual([put.status, put.headers.allow], [405, 'GET, HEAD, OPTIONS']);
      assert.equal((await send('/events', { headers: { accept: 'application/json' } })).status, 406);
      assert.equal((await send('/events/below', { headers: types })).status, 404);
    },
  },
  gzip: {
    text: '`compress: true` sends gzip, or `sse()` throws an error with the cure',
    async check({ send, call, missing }) {
      if (missing.gzip !== undefined) return assert.match(missing.gzip, /compress/);
      const stream = await send('/gzip?push=first', { headers: { 'accept-encoding': 'gzip' } });
      assert.equal(stream.headers['content-encoding'], 'gzip');
      await call('gzip', 'broadcast', 'second '.repeat(100));
      const inflated = () => gunzipSync(stream.bytes, { finishFlush: constants.Z_SYNC_FLUSH }).toString();
      await stream.until(({ bytes }) => bytes.length > 30 && inflated().includes('second second'), 'gzip');
      await call('gzip', 'end');
      assert.equal(await stream.ending(), 'end');
      assert.match(gunzipSync(stream.bytes).toString(), /event: end/);
    },
  },
  slow: {
    text: 'a client that does not read is closed, with the reason `slow`',
    async check({ send, call, eventually }) {
      const stream = await send('/slow?push=first');
      await stream.event(0);
      stream.body.pause();
      await call('slow', 'flood', 2 ** 25);
      await eventually(async () => (await call('slow', 'stats')).closed.slow === 1, 'the close of a slow client', 5000);
    },
  },
  disconnects: {
    text: 'the router notices a client that disconnects',
    async check({ send, call, eventually }) {
      const before = (await call('events', 'stats')).closed.client;
      const stream = await send('/events?push=first');
      await stream.event(0);
      stream.abort();
      await eventually(async () => (await call('events', 'stats')).closed.client > before, 'the disconnect');
    },
  },
  disconnect: {
    text: '`disconnect()` ends the connections of a channel',
    async check({ send, call }) {
      const [user, other] = [await send('/events?join=user&push=x'), await send('/events?push=x')];
      await Promise.all([user.event(0), other.event(0)]);
      await call('events', 'broadcast', 'before', { to: 'user' });
      await call('events', 'disconnect', { to: 'user' });
      assert.equal(await user.ending(), 'end');
      assert.equal(user.events[1].data, 'before');
      await call('events', 'broadcast', 'after');
      assert.equal((await other.event(1)).data, 'after');
    },
  },
  end: {
    text: '`end()` sends `end`, and a client that returns with its id gets 204',
    async check({ send, call }) {
      const stream = await send('/commonjs?push=first');
      await stream.event(0);
      await call('commonjs', 'end');
      assert.equal(await stream.ending(), 'end');
      const { event, id } = stream.events.at(-1);
      assert.equal(event, 'end');
      assert.equal((await send('/commonjs', { headers: { 'last-event-id': id } })).status, 204);
    },
  },
  errors: {
    text: 'an error of a handler: before the opening Express answers, after it the stream ends without `end`',
    async check({ send, call }) {
      const refused = await send('/refuses');
      await refused.ending();
      assert.deepEqual([refused.status, refused.text], [500, 'refused']);
      const failed = await send('/answers?fail');
      assert.equal(await failed.ending(), 'end');
      assert.deepEqual(
        failed.events.map(({ data }) => data),
        ['one', 'two'],
      );
      assert.deepEqual(await call('answers', 'errors'), ['of the handler']);
    },
  },
  answers: {
    text: 'answers to GET and POST: a complete one ends, an unfinished POST is broken off after its last byte',
    async check({ send, call }) {
      const get = await send('/answers');
      assert.equal(await get.ending(), 'end');
      assert.equal(get.events.at(-1).event, 'end');
      const how = { method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json' } };
      const post = await send('/posts', { ...how, body: '{"a":1}' });
      assert.equal(await post.ending(), 'end');
      assert.deepEqual(
        post.events.map(({ data }) => data),
        ['one', 'two'],
      );
      const failed = await send('/posts?fail', { ...how, body: '{}' });
      assert.equal(await failed.ending(), 'cut');
      assert.deepEqual(
        failed.events.map(({ data }) => data),
        ['one', 'two'],
      );
      await call('posts', 'errors');
    },
  },
  commonjs: {
    text: 'the ES modules and the CommonJS modules of the package load in one process',
    async check({ send, call }) {
      const stream = await send('/commonjs?push=first');
      assert.equal((await stream.event(0)).data, 'first');
      const id = await call('commonjs', 'broadcast', 'second');
      assert.deepEqual(await stream.event(1), { event: 'message', data: 'second', id });
    },
  },
  lmdb: {
    text: 'the journal in LMDB: broadcasts and resume',
    only: ({ withJournals }) => withJournals === true,
    check: (server) => checkJournal(server, 'lmdb'),
  },
  ioredis: {
    text: 'the journal in Redis with ioredis: the same',
    only: ({ withJournals, redisPort }) => withJournals === true && redisPort !== undefined,
    check: (server) => checkJournal(server, 'ioredis'),
  },
  noderedis: {
    text: 'the journal in Redis with node-redis: the same',
    only: ({ withJournals, redisPort }) => withJournals === true && redisPort !== undefined,
    check: (server) => checkJournal(server, 'noderedis'),
  },
  spans: {
    text: 'instrumentation reports the spans of requests (checked with OpenTelemetry)',
    only: ({ hasSpans }) => hasSpans === true,
    async check({ send, call, eventually }) {
      await (await send('/plain')).ending();
      const stream = await send('/answers');
      await stream.ending();
      await eventually(async () => (await call('events', 'spans')) >= 2, 'two spans');
    },
  },
  others: {
    text: 'other routes of the application answer as before',
    async check({ send }) {
      const plain = await send('/plain');
      await plain.ending();
      assert.deepEqual([plain.status, plain.text], [200, 'plain']);
    },
  },
  close: {
    text: '`close()` ends every stream with a `retry` of its own, and a later request gets an empty stream with `retry`',
    async check({ send, call }) {
      const stream = await send('/closes?push=first');
      await stream.event(0);
      await call('closes', 'close');
      assert.equal(await stream.ending(), 'end');
      assert.match(stream.text, /data: first\n\nretry: \d+\n$/);
      const late = await send('/closes');
      assert.deepEqual([late.status, await late.ending()], [200, 'end']);
      assert.match(late.text, /^: closing\nretry: \d+\n$/);
    },
  },
};
