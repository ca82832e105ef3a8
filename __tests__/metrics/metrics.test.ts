/*
 * sse-router/metrics: the metrics that Prometheus scrapes, on real streams.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AggregatorRegistry, Counter, Registry, register } from 'prom-client';
import { sse, type SseRouter } from '../../lib/index.ts';
import { metrics } from '../../lib/metrics/index.ts';
import { runs } from '../../lib/runs/index.ts';
import { channels } from '../../lib/diagnostics/channels.ts';
import { clear, start } from '../examples/example-process.ts';
import { eventually } from '../fixtures/http.ts';
import { another, appOf, codeOf, later, opened, overOf } from '../fixtures/support.ts';

afterEach(clear);

/** A registry for one test. Clearing it ends the subscriptions to the diagnostics channels. */
function registryOf(...routers: [SseRouter, string?][]): Registry {
  const registry = new Registry();
  later(() => registry.clear());
  for (const [events, router] of routers) metrics(events, registry, router === undefined ? {} : { router });
  return registry;
}

function routerOf(): SseRouter {
  const events = sse();
  later(() => events.close());
  return events;
}

/** The samples of a scrape: `name{labels}` to value. */
async function scrape(registry: Registry): Promise<Map<string, number>> {
  const lines = (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

test('metrics equal the stats of the router, also before anything has happened', async () => {
  const { events, app, conn } = await opened((one) => one.join('a'));
  const registry = registryOf([events]);
  const fresh = await scrape(registry);
  expect(fresh.get('sse_connections')).toBe(1);
  expect(fresh.get('sse_connections_closed_total{reason="slow"}')).toBe(0);
  expect(fresh.get('sse_resumes_total{outcome="lost"}')).toBe(0);
  expect(fresh.get('sse_journal_append_duration_seconds_count')).toBe(0);

  const second = await another(app);
  await events.broadcast('x', { to: 'a' });
  expect(await second.next()).toMatchObject({ event: 'checkpoint' });
  expect(await second.next()).toMatchObject({ data: 'x' });
  conn.end();
  await overOf(conn);
  const stats = events.stats();
  const seen = await scrape(registry);
  expect(Object.fromEntries(seen)).toMatchObject({
    sse_connections: 1,
    sse_connections_connecting: 0,
    sse_connections_behind: 0,
    sse_queued_bytes: 0,
    sse_channels: 1,
    sse_ring_entries: 1,
    sse_ring_bytes: stats.ringBytes,
    sse_journal_up: 1,
    sse_connections_opened_total: 2,
    'sse_connections_closed_total{reason="end"}': 1,
    'sse_connections_closed_total{reason="client"}': 0,
    'sse_connections_refused_total{limit="per_client"}': 0,
    sse_broadcasts_total: 1,
    sse_events_delivered_total: 2,
    sse_delivered_bytes_total: stats.bytes,
    'sse_resumes_total{outcome="resumed"}': 0,
    sse_heartbeats_total: 0,
    sse_journal_append_duration_seconds_count: 1,
    sse_hand_out_duration_seconds_count: 1,
  });
  expect(seen.get('sse_journal_append_duration_seconds_sum')).toBeLessThan(1); // seconds, not milliseconds
  expect(await scrape(registry)).toEqual(seen); // a scrape sets counters and does not increment them
});

test('refusals are counted by limit, resumes and resets by outcome', async () => {
  const events = sse({ limits: { connections: 1, whenFull: 'reject' } });
  later(() => events.close());
  const app = appOf(events);
  const registry = registryOf([events]);
  const stream = await another(app, '/events', { lastEventId: 'never-heard-of' });
  expect((await another(app)).status).toBe(503);
  await stream.close();
  await eventually(() => events.size === 0);
  const id = await events.broadcast('x');
  const back = await another(app, '/events', { lastEventId: id });
  await back.close();
  await eventually(() => events.size === 0);
  const lost = await another(app, '/events', { lastEventId: id.replace(/^./, (first) => (first === 'a' ? 'b' : 'a')) });
  await lost.close();
  const seen = await scrape(registry);
  expect(seen.get('sse_connections_refused_total{limit="connections"}')).toBe(1);
  expect(seen.get('sse_resumes_total{outcome="resumed"}')).toBe(events.stats().resumes.resumed);
  for (const reason of ['lost', 'unknown', 'diverged'] as const) {
    expect(seen.get(`sse_resumes_total{outcome="${reason}"}`)).toBe(events.stats().resumes[reason]);
  }
  expect(events.stats().resumes).toMatchObject({ resumed: 1, unknown: 2 }); // a foreign id is unknown, too
});

test('names and units follow the rules of Prometheus, and every label has a closed list of values', async () => {
  const { events } = await opened();
  const registry = registryOf([events]);
  for (const { name, type, help } of await registry.getMetricsAsJSON()) {
    expect(name).toMatch(/^sse_[a-z]+(_[a-z]+)*$/);
    expect(help).toMatch(/^.+\.$/);
    if ((type as unknown) === 'counter') expect(name).toMatch(/_total$/);
    else expect(name).not.toMatch(/_total$/);
    if ((type as unknown) === 'histogram') expect(name).toMatch(/_seconds$/);
  }
  const labels = new Set([...(await registry.metrics()).matchAll(/[{,](\w+)="/g)].map(([, label]) => label));
  expect(labels).toEqual(new Set(['le', 'limit', 'outcome', 'reason']));
});

test('a scrape reads the stats of each router once', async () => {
  const { events } = await opened();
  const stats = jest.fn(() => events.stats());
  const registry = registryOf([Object.assign(() => {}, { stats }) as unknown as SseRouter]);
  await registry.metrics();
  expect(stats).toHaveBeenCalledTimes(1);
  await registry.metrics();
  expect(stats).toHaveBeenCalledTimes(2);
});

test('under fake timers each scrape reads new stats', async () => {
  const { events } = await opened();
  const registry = registryOf([events]);
  jest.useFakeTimers();
  try {
    await registry.metrics();
    await events.broadcast('x');
    expect((await scrape(registry)).get('sse_broadcasts_total')).toBe(1);
  } finally {
    jest.useRealTimers();
  }
});

test('metrics of the processes of a cluster are added up; sse_journal_up is the minimum', async () => {
  const { events } = await opened();
  const registry = registryOf([events]);
  const one = await registry.getMetricsAsJSON();
  const other = structuredClone(one);
  Object.assign(other.find(({ name }) => name === 'sse_journal_up')!.values[0]!, { value: 0 });
  const all = AggregatorRegistry.aggregate([one, other]);
  const text = await all.metrics();
  expect(text).toContain('\nsse_connections 2\n');
  expect(text).toContain('\nsse_journal_up 0\n');
});

describe('several routers in one registry', () => {
  test('each has its name as a label, on the histograms too', async () => {
    const feed = await opened();
    const chat = await opened();
    const registry = registryOf([feed.events, 'feed'], [chat.events, 'chat']);
    await another(feed.app);
    await chat.events.broadcast('x');
    await eventually(() => chat.events.stats().events === 1);
    const seen = await scrape(registry);
    expect(seen.get('sse_connections{router="feed"}')).toBe(2);
    expect(seen.get('sse_connections{router="chat"}')).toBe(1);
    expect(seen.get('sse_connections_closed_total{router="chat",reason="client"}')).toBe(0);
    expect(seen.get('sse_journal_append_duration_seconds_count{router="chat"}')).toBe(1);
    expect(seen.get('sse_journal_append_duration_seconds_count{router="feed"}')).toBe(0);
    expect(seen.get('sse_hand_out_duration_seconds_count{router="chat"}')).toBe(1);
  });

  test('need names, and the error explains how', async () => {
    const [one, two] = [sse(), sse()];
    later(() => one.close());
    later(() => two.close());
    expect(() => registryOf([one], [two])).toThrow(
      "Give each a name, as in metrics(events, registry, { router: 'feed' })",
    );
    expect(() => registryOf([one], [two, 'two'])).toThrow('Give each a name');
    expect(() => registryOf([one, 'a'], [two, 'a'])).toThrow('received "a", the name of another router');
    expect(() => registryOf([one], [one])).toThrow('received one that it has already. Call metrics() once');
    expect(() => registryOf([one, 'a'], [one, 'b'])).toThrow('received one that it has already as "a"');
  });

  test.each([[undefined], ['feed']])('a new router replaces a closed one, with the name %s', async (router) => {
    const registry = new Registry();
    later(() => registry.clear());
    for (let round = 1; round <= 3; round++) {
      const events = sse();
      later(() => events.close());
      metrics(events, registry, router === undefined ? {} : { router });
      await events.broadcast('x');
      const seen = await scrape(registry);
      const labels = router === undefined ? '' : '{router="feed"}';
      expect(seen.get(`sse_broadcasts_total${labels}`)).toBe(1);
      expect(seen.get(`sse_journal_append_duration_seconds_count${labels}`)).toBe(1);
      await events.close();
      expect((await scrape(registry)).get(`sse_broadcasts_total${labels}`)).toBe(1); // the last scrape before the end
    }
  });

  test('a router that replaces another one removes all of its metrics, and leaves those of other routers', async () => {
    const [old, other] = [sse(), sse()];
    later(() => other.close());
    const registry = registryOf([old, 'old'], [other, 'other']);
    void old.close(); // a reload need not wait
    const events = sse();
    later(() => events.close());
    metrics(events, registry, { router: 'new' });
    const names = [...(await scrape(registry)).keys()].map((name) => /router="(\w+)"/.exec(name)![1]);
    expect(new Set(names)).toEqual(new Set(['new', 'other']));
  });

  test('one router can be in two registries', async () => {
    const { events } = await opened();
    const [left, right] = [registryOf([events]), registryOf([events])];
    await events.broadcast('x');
    for (const registry of [left, right]) expect((await scrape(registry)).get('sse_broadcasts_total')).toBe(1);
  });
});

test('a cleared registry ends its subscriptions, and can be filled again', async () => {
  const { events } = await opened();
  const registry = registryOf([events]);
  expect(channels.broadcast.hasSubscribers).toBe(true);
  registry.clear();
  await events.broadcast('x');
  await eventually(() => !channels.broadcast.hasSubscribers && !channels.handOut.hasSubscribers);
  metrics(events, registry);
  await events.broadcast('y');
  expect((await scrape(registry)).get('sse_journal_append_duration_seconds_count')).toBe(1);
});

test("prom-client's global registry is the default", async () => {
  const { events } = await opened();
  later(() => register.clear());
  metrics(events);
  expect(await register.metrics()).toContain('\nsse_connections 1\n');
});

describe('a registry that has a metric of the same name', () => {
  test('is refused before anything is added, at each call', async () => {
    const registry = registryOf();
    registry.registerMetric(new Counter({ name: 'sse_connections_opened_total', help: 'x', registers: [] }));
    registry.registerMetric(new Counter({ name: 'sse_hand_out_duration_seconds', help: 'x', registers: [] }));
    const events = routerOf();
    for (let call = 1; call <= 2; call++) {
      expect(() => metrics(events, registry)).toThrow(
        'metrics(events, registry): registry must have no metric with a name of this package; received one that has sse_connections_opened_total, sse_hand_out_duration_seconds. Rename or remove that metric, or pass another Registry.',
      );
      expect(codeOf(() => metrics(events, registry))).toBe('ERR_SSE_OPTION');
    }
    expect((await registry.getMetricsAsJSON()).map(({ name }) => name)).toEqual([
      'sse_connections_opened_total',
      'sse_hand_out_duration_seconds',
    ]);
  });

  test('is refused for a router of runs too, and keeps the other router', async () => {
    const events = routerOf();
    const registry = registryOf([events, 'events']);
    registry.registerMetric(new Counter({ name: 'sse_runs', help: 'x', registers: [] }));
    const answers = runs(async function* () {});
    later(() => answers.close());
    const before = (await registry.getMetricsAsJSON()).length;
    for (let call = 1; call <= 2; call++)
      expect(() => metrics(answers, registry, { router: 'runs' })).toThrow('received one that has sse_runs. Rename');
    expect((await registry.getMetricsAsJSON()).length).toBe(before);
    expect((await scrape(registry)).get('sse_connections{router="events"}')).toBe(0);
  });
});

test('a call that throws keeps the closed router, whose metrics the next call removes', async () => {
  const [one, two, three] = [routerOf(), routerOf(), routerOf()];
  const registry = registryOf([one, 'one'], [two, 'two']);
  await one.close();
  expect(() => metrics(three, registry, { router: 'two' })).toThrow('the name of another router');
  metrics(three, registry, { router: 'three' });
  const names = [...(await scrape(registry)).keys()];
  expect(names.filter((name) => name.includes('router="one"'))).toEqual([]);
  expect(names).toContain('sse_journal_append_duration_seconds_count{router="three"}');
});

test('arguments are checked at once', () => {
  const events = sse();
  later(() => events.close());
  expect(codeOf(() => metrics({} as SseRouter))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => metrics(events, {} as Registry))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => metrics(events, new Registry(), { router: '' }))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => metrics(events, new Registry(), null as never))).toBe('ERR_SSE_OPTION');
  expect(() => metrics(events, new Registry(), { name: 'x' } as never)).toThrow(
    'The name of each option of metrics() must be router; received the string "name".',
  );
});

test('the example serves metrics', async () => {
  const example = await start('metrics.ts');
  const text = await (await fetch(`${example.url}/metrics`)).text();
  expect(text).toContain('# TYPE sse_connections gauge\nsse_connections 0\n');
  expect((await example.stop()).code).toBe(0);
});

test('the dashboard uses only metrics that exist', async () => {
  const { events } = await opened();
  const text = await registryOf([events]).metrics();
  const existing = new Set(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => /^\w+/.exec(line)![0]),
  );
  const dashboard = readFileSync(join(__dirname, '../../examples/grafana-dashboard.json'), 'utf8');
  const queries = [...dashboard.matchAll(/"(?:expr|query)": "((?:[^"\\]|\\.)*)"/g)].map(([, query]) => query!);
  const used = new Set(queries.flatMap((query) => query.match(/\bsse_\w+/g) ?? []));
  expect([...used].filter((name) => !existing.has(name))).toEqual([]);
  expect(used.size).toBeGreaterThan(10);
  expect(() => JSON.parse(dashboard)).not.toThrow();
});
