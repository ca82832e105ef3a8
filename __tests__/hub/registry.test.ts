// A look at very many connections takes longer than one slice: it must come to the last of them all the same.

import { Registry } from '../../lib/hub/registry.ts';
import { SweepTimer } from '../../lib/hub/sweep-timer.ts';
import { Counters } from '../../lib/diagnostics/stats.ts';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';

beforeEach(() => jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] }));
afterEach(() => {
  jest.restoreAllMocks();
  jest.useRealTimers();
});

test('each of 2,000 connections is looked at, although a look at them all takes longer than until the first is due again', () => {
  let worked = 0;
  const plain = performance.now.bind(performance);
  jest.spyOn(performance, 'now').mockImplementation(() => plain() + worked);
  const looks = Array.from({ length: 2000 }, () => 0);
  const timer: SweepTimer = new SweepTimer((now) => registry.sweep(now, Infinity));
  const registry = new Registry({ connections: Infinity, perClient: Infinity }, new Counters(), timer);
  looks.forEach((_, index) => {
    registry.addConnecting({
      client: undefined,
      onSweep(now: number) {
        looks[index]!++;
        worked += 0.5; // a second for all of them
        return now + 100; // and due again long before
      },
    } as unknown as ServerConnection);
  });
  timer.wakeAt(1);
  for (let n = 0; n < 400 && looks.at(-1) === 0; n++) jest.advanceTimersByTime(10);
  expect(looks.filter((count) => count === 0)).toEqual([]);
  expect(Math.max(...looks) - Math.min(...looks)).toBeLessThanOrEqual(1);
  timer.stop();
});
