/*
 * The checks of clients. Each receives a server and a function that starts the client's program.
 */
import assert from 'node:assert/strict';

/** @type {Record<string, { text: string, check: (server: object) => Promise<void> }>} */
export const clientCases = {
  events: {
    text: 'events with names, several lines, and characters of four bytes',
    async check({ open, call, port, eventually }) {
      const events = open(`http://127.0.0.1:${port}/events`);
      await eventually(async () => (await call('events', 'size')) === 1, 'the connection');
      await call('events', 'broadcast', 'é€💥\nsecond line');
      const id = await call('events', 'broadcast', { event: 'order', data: { n: 1 } });
      await eventually(() => events.length === 2, 'two events');
      assert.equal(events[0].data, 'é€💥\nsecond line');
      assert.deepEqual(events[1], { event: 'order', data: '{"n":1}', id });
    },
  },
  resume: {
    text: 'after a close, the client reconnects with its id, after the `retry` of the server, and receives what it missed',
    async check({ open, call, port, eventually }) {
      const events = open(`http://127.0.0.1:${port}/slow`);
      await eventually(async () => (await call('slow', 'size')) === 1, 'the connection');
      await call('slow', 'broadcast', 'one');
      await eventually(() => events.length === 1, 'the first event');
      await call('slow', 'closeAll');
      await call('slow', 'broadcast', 'two');
      await eventually(() => events.length > 1, 'the missed event', 8000);
      await call('slow', 'broadcast', 'three');
      await eventually(() => events.length > 2, 'the live event');
      assert.deepEqual(
        events.map(({ data }) => data),
        ['one', 'two', 'three'],
      );
    },
  },
  end: {
    text: 'after `end()`, the client stops: 204 is its last answer',
    async check({ open, call, port, eventually }) {
      const events = open(`http://127.0.0.1:${port}/commonjs?push=first`);
      await eventually(() => events.length === 1, 'the first event');
      await call('commonjs', 'end');
      await new Promise((resolve) => setTimeout(resolve, 4000));
      const requests = await call('events', 'requests');
      await new Promise((resolve) => setTimeout(resolve, 4000));
      assert.equal((await call('events', 'requests')) - requests, 0, 'the client sends further requests');
      assert.deepEqual(
        events.map(({ data }) => data),
        ['first'],
      );
    },
  },
};
