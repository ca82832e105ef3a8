// What a journal's `restart` means for those who stand on the ring, and for those who do not.

import express from 'express';
import { memoryJournal, sse, type Follower, type Journal } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';

/** A journal in memory whose follower the test can speak to. */
function wrapped(read?: Journal['read']): { journal: Journal; follower: () => Follower } {
  const inner = memoryJournal();
  let told!: Follower;
  const journal: Journal = {
    open: () => inner.open(),
    append: (entry) => inner.append(entry),
    window: (max) => inner.window(max),
    read: read ?? ((after, limit) => inner.read(after, limit)),
    follow: (after, follower) => {
      told = follower;
      return inner.follow(after, follower);
    },
    compare: (a, b) => inner.compare(a, b),
    isId: (text) => inner.isId(text),
    close: () => inner.close(),
  };
  return { journal, follower: () => told };
}

test('a live reader is told the last id that it had', async () => {
  const { journal, follower } = wrapped();
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

test('who waits with an id that the log has, as it is now, is resumed and not reset', async () => {
  let asked!: () => void;
  const wasAsked = new Promise<void>((resolve) => (asked = resolve));
  const { journal, follower } = wrapped(async () => {
    asked();
    return { ok: true, entries: [] };
  });
  const events = sse({ history: journal });
  const epoch = (await events.broadcast('b')).replace(/-\d+$/, '');
  const stream = await connect(express().use('/e', events), '/e', { lastEventId: `${epoch}-901` });
  await wasAsked;
  const entries = [901, 902].map((n) => ({ id: `${epoch}-${n}`, body: Buffer.from(`data: ${n}\n\n`) }));
  follower().restart({ floor: `${epoch}-900`, entries }, 'unknown');
  expect(await stream.next()).toMatchObject({ event: 'message', data: '902', id: `${epoch}-902` });
  await stream.close();
  await events.close();
});
