/*
 * Runs without HTTP: what a hub produces, stops, follows and loses, over one or several processes on a store in memory.
 */
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { hubOn, readerOf, Script } from './fixtures.ts';

describe('a run', () => {
  test('is produced once, and its chunks and its end reach every reader in every process', async () => {
    const logs = new MemoryRunLogs();
    const [{ hub }, { hub: other }] = [hubOn(logs), hubOn(logs)];
    const script = new Script();
    const { started, feed, state } = await hub.start('a', () => script, 'join');
    expect([started, state.status, feed.position]).toEqual([true, 'running', 0]);
    const joined = await other.start(
      'a',
      () => {
        throw new Error('made twice');
      },
      'join',
    );
    expect([joined.started, joined.feed.run]).toEqual([false, feed.run]);
    const readers = [readerOf(feed), readerOf(joined.feed), readerOf(other.feed(joined.state))];
    script.yield('one', { two: 2 });
    script.finish();
    for (const reader of readers) {
      expect((await reader.whenEnded).status).toBe('done');
      expect([reader.first, reader.chunksRead]).toEqual([1, ['one', { two: 2 }]]);
    }
    expect(await other.status('a')).toMatchObject({ id: 'a', status: 'done', chunks: 2 });
    expect(hub.stats).toMatchObject({ started: 1, chunks: 2, ended: { done: 1 } });
  });
});
