// The effect of a journal's `restart` on connections in the ring, and on connections in the log.

import express from 'express';
import { sse } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { journalWithFollower } from '../fixtures/journal-with-follower.ts';

test('a live client receives a reset with its last id', async () => {
  const { journal, follower } = journalWithFollower();
  const events = sse({ history: journal });
  const stream = await connect(express().use('/e', events), '/e');
  await stream.next();
  await events.broadcast('a');
  const id = await events.broadcast('b');
  await stream.take(2);
  follower().restart({ floor: id.replace(/\d+$/, '900'), entries: [] }, 'unknown');
  const reset = await stream.next();
  expect(reset.event).toBe('reset');
  expect(JSON.parse(reset.data)).toEqual({ reason: 'unknown', lastEventId: id });
  await stream.close();
  await events.close();
});

test('a connection that waits with an id that is still in the log is resumed, without a reset', async () => {
  let onRead!: () => void;
  const readCalled = new Promise<void>((resolve) => (onRead = resolve));
  const { journal, follower } = journalWithFollower(async () => {
    onRead();
    return { ok: true, entries: [] };
  });
  const events = sse({ history: journal });
  const epoch = (await events.broadcast('b')).replace(/-\d+$/, '');
  const stream = await connect(express().use('/e', events), '/e', { lastEventId: `${epoch}-901` });
  await readCalled;
  const entries = [901, 902].map((n) => ({ id: `${epoch}-${n}`, body: Buffer.from(`data: ${n}\n\n`) }));
  follower().restart({ floor: `${epoch}-900`, entries }, 'unknown');
  expect(await stream.next()).toMatchObject({ event: 'message', data: '902', id: `${epoch}-902` });
  await stream.close();
  await events.close();
});
