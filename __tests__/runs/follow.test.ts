/*
 * `follow()`: server code receives the chunks of a run, from any process.
 */
import type { RunEvent } from '../../lib/runs/api.ts';
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { codeOf } from '../fixtures/support.ts';
import { all, begun, fakeTime, hubOn, pass, readerOf, settle } from './fixtures.ts';

async function take<C>(iterator: AsyncIterator<RunEvent<C>>, count: number): Promise<RunEvent<C>[]> {
  const steps: RunEvent<C>[] = [];
  while (steps.length < count) {
    const step = await iterator.next();
    if (step.done) break;
    steps.push(step.value);
  }
  return steps;
}

test('yields every chunk with its id, and then the end, in the process that produces it and in others', async () => {
  const logs = new MemoryRunLogs();
  const [one, other] = [hubOn(logs), hubOn(logs)];
  const { script, state } = await begun(one, 'a b');
  const iterations = [one, other].map(({ hub }) => all(hub.follow('a b')));
  await settle();
  script.yield('x', { y: 1 });
  await settle();
  script.yield(null);
  script.finish();
  const prefix = `a%20b~${state.generation}~`;
  for (const steps of await Promise.all(iterations)) {
    expect(steps).toEqual([
      { type: 'chunk', id: `${prefix}1`, chunk: 'x' },
      { type: 'chunk', id: `${prefix}2`, chunk: { y: 1 } },
      { type: 'chunk', id: `${prefix}3`, chunk: null },
      { type: 'end', id: `${prefix}end`, status: 'done', info: expect.objectContaining({ id: 'a b', chunks: 3 }) },
    ]);
  }
  expect(one.store.calls['read']).toBeUndefined();
});

test('continues after the id of any step, and yields nothing after the end', async () => {
  const one = hubOn();
  const { script } = await begun(one, 'a');
  script.yield(...Array.from({ length: 1000 }, (_, n) => n));
  script.finish();
  const steps = await all(one.hub.follow('a'));
  expect(steps).toHaveLength(1001);
  for (const n of [0, 1, 500, 998, 999]) {
    expect(await all(one.hub.follow('a', { after: steps[n]!.id }))).toEqual(steps.slice(n + 1));
  }
  expect(await all(one.hub.follow('a', { after: steps[1000]!.id }))).toEqual([]);
  expect(await all(one.hub.follow('unknown'))).toEqual([]);
});

test('a slow consumer receives every chunk once and in order, and the process holds a bounded number for it', async () => {
  const logs = new MemoryRunLogs();
  const [one, other] = [hubOn(logs), hubOn(logs)];
  for (const { hub, store } of [one, other]) {
    const id = hub === one.hub ? 'local' : 'remote';
    const { script } = await begun(one, id);
    const iterator = hub.follow(id);
    script.yield(0);
    expect(await take(iterator, 1)).toHaveLength(1);
    for (let n = 1; n < 3000; n += 10) {
      script.yield(...Array.from({ length: 10 }, (_, k) => n + k).filter((k) => k < 3000));
      await new Promise(setImmediate);
      if (n % 1000 === 1) await take(iterator, 2);
    }
    script.finish();
    const rest = await all({ [Symbol.asyncIterator]: () => iterator });
    const numbers = rest.slice(0, -1).map((step) => (step.type === 'chunk' ? step.chunk : undefined));
    expect(numbers).toEqual(Array.from({ length: 3000 - 7 }, (_, n) => n + 7));
    expect(rest.at(-1)).toMatchObject({ type: 'end', status: 'done' });
    expect(store.calls['read']).toBeGreaterThan(0);
  }
});

test('yields the end lost for a generation that was dropped, but not for a client that has received its end', async () => {
  fakeTime();
  const one = hubOn(undefined, { keep: 1000 });
  const { script, state } = await begun(one, 'a');
  script.yield('x');
  script.finish();
  await settle();
  const id = (n: number | string) => `a~${state.generation}~${n}`;
  await pass(1100);
  expect(await all(one.hub.follow('a', { after: id(1) }))).toMatchObject([
    { type: 'end', id: id('end'), status: 'lost' },
  ]);
  expect(await all(one.hub.follow('a', { after: id('end') }))).toEqual([]);
});

test('continues with the generation of its position, while a newer one is running', async () => {
  const one = hubOn();
  const first = await begun(one, 'a');
  first.script.yield(1, 2);
  first.script.finish();
  const [step] = await all(one.hub.follow('a'));
  const second = await begun(one, 'a');
  second.script.yield(3);
  second.script.finish();
  expect(await all(one.hub.follow('a', { after: step!.id }))).toMatchObject([{ chunk: 2 }, { type: 'end' }]);
  expect(await all(one.hub.follow('a'))).toMatchObject([{ chunk: 3 }, { type: 'end' }]);
});

test('ends without an end when its signal aborts, and counts as no reader then', async () => {
  fakeTime();
  const logs = new MemoryRunLogs();
  const one = hubOn(logs, { stopUnread: 3000 });
  const { script, signal } = await begun(one, 'a');
  const controller = new AbortController();
  const steps = all(one.hub.follow('a', { signal: controller.signal }));
  script.yield('x');
  await pass(10_000);
  expect(signal().aborted).toBe(false);
  controller.abort();
  expect(await steps).toMatchObject([{ type: 'chunk', chunk: 'x' }]);
  await pass(5000);
  expect(signal().aborted).toBe(true);
  expect(await all(one.hub.follow('a', { signal: controller.signal }))).toEqual([]);
});

test('return() ends it at once although a next() waits', async () => {
  const one = hubOn();
  await begun(one, 'a');
  const iterator = one.hub.follow('a');
  const waiting = iterator.next();
  await settle();
  expect(await iterator.return!()).toEqual({ done: true, value: undefined });
  expect(await waiting).toEqual({ done: true, value: undefined });
});

test('a consumer that breaks off is no reader any more', async () => {
  const logs = new MemoryRunLogs();
  const [one, other] = [hubOn(logs), hubOn(logs)];
  const { script } = await begun(one, 'a');
  script.yield('x');
  for await (const step of other.hub.follow('a')) {
    expect(step.type).toBe('chunk');
    break;
  }
  script.yield('y');
  await settle();
  expect(await other.hub.state('a')).toMatchObject({ chunks: 2 });
  expect(other.hub.feed((await other.hub.state('a', 'none')) ?? (await other.hub.state('a'))!).position).toBe(2); // not that of the iteration
});

test.each([
  ['', {}, 'ERR_SSE_ID'],
  ['a\n', {}, 'ERR_SSE_ID'],
  [7, {}, 'ERR_SSE_ID'],
  ['a', { after: '5' }, 'ERR_SSE_ID'],
  ['a', { after: 'b~g~5' }, 'ERR_SSE_ID'],
  ['a', { after: '' }, 'ERR_SSE_ID'],
  ['a', { after: null }, 'ERR_SSE_ID'],
  ['a', { after: 5 }, 'ERR_SSE_ID'],
  ['a', { after: {} }, 'ERR_SSE_ID'],
  ['a', { signal: 5 }, 'ERR_SSE_OPTION'],
  ['a', { signal: null }, 'ERR_SSE_OPTION'],
  ['a', null, 'ERR_SSE_OPTION'],
  ['a', { from: 'a~g~1' }, 'ERR_SSE_OPTION'],
])('throws at once for the id %j and the options %j', (id, options, code) => {
  const { hub } = hubOn();
  expect(codeOf(() => hub.follow(id as string, options as object))).toBe(code);
});

test('return() ends an iteration that waits for the next step', async () => {
  const one = hubOn();
  const { script, feed } = await begun(one, 'a');
  const iterator = one.hub.follow('a');
  script.yield('x');
  expect((await iterator.next()).value).toMatchObject({ chunk: 'x' });
  const next = iterator.next();
  await settle();
  const returned = iterator.return!();
  expect(await Promise.race([next, settle()])).toEqual({ done: true, value: undefined });
  expect(await returned).toEqual({ done: true, value: undefined });
  expect(feed.ended).toBeUndefined();
});

test('close() ends the iterations over the runs of other processes', async () => {
  const logs = new MemoryRunLogs();
  const [one, other] = [hubOn(logs), hubOn(logs)];
  const { script } = await begun(one, 'a');
  const iterator = other.hub.follow('a');
  script.yield('x');
  expect((await iterator.next()).value).toMatchObject({ chunk: 'x' });
  const next = iterator.next();
  await settle();
  await other.hub.close();
  expect(await Promise.race([next, settle()])).toEqual({ done: true, value: undefined });
});

test('a position beyond the log is that of its newest chunk', async () => {
  const one = hubOn();
  const { script, state } = await begun(one, 'a');
  script.yield('x');
  await settle();
  const iterator = one.hub.follow('a', { after: `a~${state.generation}~9999` });
  const next = iterator.next();
  await settle();
  script.yield('y');
  expect((await next).value).toMatchObject({ id: `a~${state.generation}~2`, chunk: 'y' });
  await iterator.return!();
});

test.each([
  ['one append', 2, 0],
  ['more than an append, and this process has it', 2000, 2],
])('a position that the store has lost is kept, so no chunk is yielded twice: %s', async (_, chunks, readers) => {
  const one = hubOn();
  const { script, state, feed } = await begun(one, 'a');
  for (let n = 0; n < readers; n++) readerOf(feed);
  script.yield(...Array.from({ length: chunks }, () => 'x'));
  await settle();
  one.store.state = async () => ({ ...state, chunks: 1 }); // as after a failover
  const iterator = one.hub.follow('a', { after: `a~${state.generation}~${chunks}` });
  const next = iterator.next();
  await settle();
  script.yield('z');
  expect((await next).value).toMatchObject({ id: `a~${state.generation}~${chunks + 1}`, chunk: 'z' });
  await iterator.return!();
});
