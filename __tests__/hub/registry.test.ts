// A sweep of very many connections takes longer than one slice. It must still reach the last connection.

import { Registry } from '../../lib/hub/registry.ts';
import { SweepTimer } from '../../lib/hub/sweep-timer.ts';
import { Counters } from '../../lib/diagnostics/stats.ts';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';

beforeEach(() => jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] }));
afterEach(() => {
  jest.restoreAllMocks();
  jest.useRealTimers();
});

test('the sweep reaches each of 2,000 connections, although the first is due again before the sweep is complete', () => {
  let worked = 0;
  const plain = performance.now.bind(performance);
  jest.spyOn(performance, 'now').mockImplementation(() => plain() + worked);
  const sweeps = Array.from({ length: 2000 }, () => 0);
  const timer: SweepTimer = new SweepTimer((now) => registry.sweep(now, Infinity));
  const registry = new Registry({ connections: Infinity, perClient: Infinity }, new Counters(), timer);
  sweeps.forEach((_, index) => {
    registry.addConnecting({
      client: undefined,
      onSweep(now: number) {
        sweeps[index]!++;
        worked += 0.5; // one second for all connections
        return now + 100; // due again long before that
      },
    } as unknown as ServerConnection);
  });
  timer.wakeAt(1);
  for (let n = 0; n < 400 && sweeps.at(-1) === 0; n++) jest.advanceTimersByTime(10);
  expect(sweeps.filter((count) => count === 0)).toEqual([]);
  expect(Math.max(...sweeps) - Math.min(...sweeps)).toBeLessThanOrEqual(1);
  timer.stop();
});
