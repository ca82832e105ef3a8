// The benchmark itself: its clients must notice a server's mistakes, and every scenario must deliver every event.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram } from '../fixtures/redis-server.ts';

const run = promisify(execFile);
const root = join(__dirname, '../..');

/** Runs an ES module in the folder of the benchmark. Returns its output, which is JSON. */
async function evaluate(script: string): Promise<unknown> {
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: join(root, 'bench') });
  return JSON.parse(stdout);
}

describe('the counter', () => {
  const counted = (feed: string) =>
    evaluate(`
      import { Counter } from './counter.mjs';
      import { frame, payload, skippable } from './events.mjs';
      const counter = new Counter(1, { skip: skippable(100) });
      const event = (n) => frame(payload(n, 100));
      ${feed}
      console.log(JSON.stringify({ seq: counter.seq(0), events: counter.events, faults: counter.faults }));
    `);

  it('counts events in order', async () => {
    await expect(
      counted(`counter.feed(0, Buffer.concat([event(1), event(2)])); counter.feed(0, event(3));`),
    ).resolves.toEqual({ seq: 3, events: 3, faults: 0 });
  });

  it('reads events that are divided at any byte', async () => {
    await expect(
      counted(`
        for (let n = 0; n < 40; n++) {
          counter.restart(0);
          const both = Buffer.concat([event(2 * n + 1), event(2 * n + 2)]);
          for (let at = 0; at < both.length; at += n + 1) counter.feed(0, both.subarray(at, at + n + 1));
        }
      `),
    ).resolves.toEqual({ seq: 80, events: 80, faults: 0 });
  });

  it.each([
    ['lost', `counter.feed(0, event(1)); counter.feed(0, event(3));`],
    ['sent twice', `counter.feed(0, event(1)); counter.feed(0, event(1));`],
    ['out of order', `counter.feed(0, event(2)); counter.feed(0, event(1));`],
  ])('notices an event that is %s', async (_what, feed) => {
    await expect(counted(feed)).resolves.toMatchObject({ seq: 1, events: 1, faults: 1 });
  });

  it('notices an event that is sent twice or out of order, where a connection receives some of the events', async () => {
    const some = (feed: string) =>
      evaluate(`
        import { Counter } from './counter.mjs';
        import { frame, payload, skippable } from './events.mjs';
        const counter = new Counter(1, { skip: skippable(100), hasGaps: true });
        for (const n of [${feed}]) counter.feed(0, frame(payload(n, 100)));
        console.log(JSON.stringify([counter.events, counter.faults]));
      `);
    await expect(some('1, 4, 9')).resolves.toEqual([3, 0]);
    await expect(some('1, 4, 4')).resolves.toEqual([2, 1]);
    await expect(some('4, 1')).resolves.toEqual([1, 1]);
  });

  it('does not count an event without its blank line', async () => {
    await expect(counted(`counter.feed(0, event(1).subarray(0, -1));`)).resolves.toMatchObject({ events: 0 });
  });
});

describe('the check of a log', () => {
  const fault = (log: string) =>
    evaluate(`
      import { faultIn, frame, payload } from './events.mjs';
      const event = (n) => new Uint8Array(frame(payload(n, 100)));
      console.log(JSON.stringify(faultIn([${log}], 3) ?? null));
    `);

  it('finds nothing wrong with events in order', async () => {
    await expect(fault(`event(1), event(2), event(3)`)).resolves.toBeNull();
  });

  it.each([
    ['lost', `event(1), event(3)`, 'entry 2 of the log is event 3'],
    ['in the log twice', `event(1), event(2), event(2), event(3)`, 'entry 3 of the log is event 2'],
    ['out of order', `event(2), event(1), event(3)`, 'entry 1 of the log is event 2'],
    ['missing at the end', `event(1), event(2)`, '2 of 3 events are in the log'],
  ])('notices an event that is %s', async (_what, log, expected) => {
    await expect(fault(log)).resolves.toBe(expected);
  });
});

describe('the pace', () => {
  it('keeps a window of calls running, and makes each call once and in order', async () => {
    const result = await evaluate(`
      import { windowed } from './pace.mjs';
      const calls = [];
      let under = 0;
      let most = 0;
      await windowed(20, 3, async (n) => {
        calls.push(n);
        most = Math.max(most, ++under);
        await new Promise(setImmediate);
        under--;
      });
      console.log(JSON.stringify({ calls, most }));
    `);
    expect(result).toEqual({ calls: Array.from({ length: 20 }, (_, n) => n), most: 3 });
  });

  it('sends no faster than the rate', async () => {
    const result = await evaluate(`
      import { steadily } from './pace.mjs';
      const calls = [];
      const begun = performance.now();
      await steadily(20, 200, async (n) => void calls.push([n, performance.now() - begun]));
      console.log(JSON.stringify(calls));
    `);
    const calls = result as [number, number][];
    expect(calls.map(([n]) => n)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(calls.filter(([n, at]) => at < n * 5 - 1)).toEqual([]);
  });

  it('is late instead of exceeding its window', async () => {
    const result = await evaluate(`
      import { steadily } from './pace.mjs';
      let under = 0;
      let most = 0;
      let calls = 0;
      const one = async () => {
        calls++;
        most = Math.max(most, ++under);
        await new Promise((resolve) => setTimeout(resolve, 1));
        under--;
      };
      await steadily(30, 1_000_000, one, 4);
      console.log(JSON.stringify({ calls, most }));
    `);
    expect(result).toEqual({ calls: 30, most: 4 });
  });

  it('ends with the first failure', async () => {
    const result = await evaluate(`
      import { steadily } from './pace.mjs';
      const calls = [];
      const one = async (n) => { calls.push(n); if (n === 2) throw new Error('full'); };
      const message = await steadily(1_000_000, 1000, one).catch((error) => error.message);
      console.log(JSON.stringify({ message, few: calls.length < 1000 }));
    `);
    expect(result).toEqual({ message: 'full', few: true });
  });
});

describe('the statistics', () => {
  it('takes percentiles of the samples', async () => {
    const result = await evaluate(`
      import { percentile } from './statistics.mjs';
      const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
      console.log(JSON.stringify([percentile(hundred, 50), percentile(hundred, 99), percentile([7], 99)]));
    `);
    expect(result).toEqual([50, 99, 7]);
  });

  it('takes ratios round by round', async () => {
    const result = await evaluate(`
      import { ratio, spread } from './statistics.mjs';
      const slowMinute = [{ cpu: 2 }, { cpu: 20 }, { cpu: 2 }];
      const baseline = [{ cpu: 1 }, { cpu: 10 }, { cpu: 1 }];
      console.log(JSON.stringify([spread(slowMinute, 'cpu'), ratio(slowMinute, baseline, 'cpu')]));
    `);
    expect(result).toEqual([
      { median: 2, min: 2, max: 20 },
      { median: 2, min: 2, max: 2 },
    ]);
  });
});

describe('a smoke run', () => {
  interface Scenario {
    name: string;
    samples: Record<string, object[]>;
    refused: Record<string, string>;
  }
  let folder = '';
  let scenarios: Scenario[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sse-router-bench-test-'));
    if (!process.env['REDIS_URL']) await findProgram();
    // The exit code is not checked, because each test below checks one scenario.
    await run(process.execPath, ['bench/run.mjs', '--smoke', '--out', folder], { cwd: root }).catch(() => {});
    ({ scenarios } = JSON.parse(await readFile(join(folder, 'results.json'), 'utf8')) as { scenarios: Scenario[] });
  }, 240_000);

  afterAll(() => rm(folder, { recursive: true, force: true }));

  it.each([
    'fan-out',
    'burst',
    'private',
    'private-journals',
    'audiences',
    'memory',
    'set-up',
    'single',
    'compression',
    'many',
    'storm',
    'cold-storm',
  ])('%s delivers every event to every client', (name) => {
    const scenario = scenarios.find((one) => one.name === name);
    expect(scenario?.refused).toEqual({});
    expect(scenario?.samples).toHaveProperty('ours');
    for (const taken of Object.values(scenario?.samples ?? {})) expect(taken).toHaveLength(1);
  });

  it.each(['node-redis', 'ioredis', 'lmdb', 'postgres'])('machines has every figure of %s', (journal) => {
    const scenario = scenarios.find(({ name }) => name === 'machines');
    expect(scenario?.refused).toEqual({});
    const [figures] = scenario?.samples[journal] ?? [];
    for (const name of ['publishes', 'p50', 'p99', 'catchUp', 'ring', 'log', 'bytes']) {
      expect(figures).toHaveProperty(name, expect.any(Number));
    }
    // If the CPU time of the engine is not available, a note in the table contains the reason.
    const { each, notes } = figures as { each?: number; notes: string[] };
    expect(each !== undefined || notes.length > 0).toBe(journal !== 'lmdb');
  });

  it('writes a report', async () => {
    await expect(readFile(join(folder, 'RESULTS.md'), 'utf8')).resolves.toContain('## Fan-out: one broadcast per tick');
  });
});

it('the program that measures the bloat of the tables in Postgres reports their sizes', async () => {
  const args = ['bench/run.mjs', 'bloat', '--events', '1000', '--every', '1'];
  const { stdout } = await run(process.execPath, args, { cwd: root });
  expect(stdout).toMatch(/^\| 1000 \|/m);
  expect(stdout).toMatch(/^Largest at a report, with indexes: .*log [\d.]+ MiB/m);
}, 60_000);
