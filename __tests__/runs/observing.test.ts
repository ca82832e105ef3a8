/*
 * What operators see of a router of runs: stats, Prometheus metrics, diagnostics channels, and the inspector's page data.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import express from 'express';
import { Registry } from 'prom-client';
import { sse } from '../../lib/index.ts';
import { inspector } from '../../lib/inspector/index.ts';
import { metrics } from '../../lib/metrics/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { eventually } from '../fixtures/http.ts';
import { codeOf, later } from '../fixtures/support.ts';
import { site } from './sites.ts';

async function scrape(registry: Registry): Promise<Record<string, number>> {
  const lines = (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(
    lines.map((line) => line.split(/ (?=[^ ]+$)/) as [string, string]).map(([k, v]) => [k, Number(v)]),
  );
}

test('metrics() accepts a router of runs, beside routers of broadcasts', async () => {
  const { chat, post, models } = await site({ onError: () => {} });
  const registry = new Registry();
  later(() => registry.clear());
  const events = sse();
  later(() => events.close());
  metrics(events, registry, { router: 'feed' });
  expect(Object.keys(await scrape(registry)).filter((name) => name.startsWith('sse_run'))).toEqual([]);
  metrics(chat, registry, { router: 'chat' });
  const a = await post('a');
  await post('b');
  models.calls[0]!.emit('x', 'y');
  await a.take(2);
  models.calls[0]!.finish();
  await a.body();
  const c = await post('c');
  models.last.fail(new Error('no'));
  await c.body();
  await eventually(() => chat.stats().runs.ended.failed === 1);
  expect(await scrape(registry)).toMatchObject({
    'sse_runs{router="chat"}': 1,
    'sse_run_readers{router="chat"}': 1,
    'sse_runs_ended_total{router="chat",status="done"}': 1,
    'sse_runs_ended_total{router="chat",status="failed"}': 1,
    'sse_runs_ended_total{router="chat",status="lost"}': 0,
    'sse_runs_ended_total{router="chat",status="stopped"}': 0,
    'sse_run_chunks_total{router="chat"}': 2,
    'sse_connections{router="chat"}': 1,
    'sse_connections{router="feed"}': 0,
    'sse_connections_closed_total{router="chat",reason="end"}': 2,
    'sse_journal_up{router="chat"}': 1,
    'sse_resumes_total{router="chat",outcome="resumed"}': 0,
  });
  const seen = await scrape(registry);
  expect(seen['sse_run_bytes_total{router="chat"}']).toBeGreaterThan(0);
  expect(Object.keys(seen).filter((name) => name.includes('run') && name.includes('feed'))).toEqual([]);
  expect(codeOf(() => metrics(chat, registry, { router: 'again' }))).toBe('ERR_SSE_OPTION');
});

test('the diagnostics channels report the runs and the readers', async () => {
  const seen: [string, unknown][] = [];
  const listeners = (['run-start', 'run-end', 'open', 'close'] as const).map((name) => {
    const listener = (message: any): void => {
      expect(message.router).toBe(chat);
      seen.push([name, message.run === undefined ? message.reason : [message.run.id, message.run.status]]);
    };
    subscribe(`sse-router:${name}`, listener);
    return [`sse-router:${name}`, listener] as const;
  });
  later(() => listeners.forEach(([name, listener]) => unsubscribe(name, listener)));
  const { chat, post, models } = await site();
  const stream = await post('r');
  models.last.emit('a');
  models.last.finish();
  await stream.body();
  await eventually(() => seen.length === 4);
  expect(seen).toContainEqual(['run-start', ['r', 'running']]);
  expect(seen).toContainEqual(['run-end', ['r', 'done']]);
  expect(seen).toContainEqual(['open', undefined]);
  expect(seen).toContainEqual(['close', 'end']);
});

test('the inspector shows the runs that have readers, and closes a reader', async () => {
  const { chat, post, open, models } = await site();
  const app = express();
  app.use('/_runs', inspector(chat));
  const first = await post('r 1');
  await open(`/${encodeURIComponent('r 1')}`);
  models.last.emit('a', 'b');
  await first.take(2);
  const feed = await connect(app, '/_runs/feed');
  later(() => feed.close());
  const { data } = await feed.next('figures');
  expect(JSON.parse(data)).toMatchObject({
    runs: [{ id: 'r 1', status: 'running', chunks: 2, readers: 2 }],
    stats: { connections: 2, runs: { running: 1 } },
  });
  const listing = await feed.next('connections');
  const { total, rows } = JSON.parse(listing.data) as { total: number; rows: [{ id: string; lastId: string }] };
  expect(total).toBe(2);
  const [{ id, lastId }] = rows;
  expect(lastId).toMatch(/^r%201~[\w-]+~2$/);
  await feed.close();
  const action = await connect(app, `/_runs/connections/${id}/end`, {
    body: {},
    headers: { 'sec-fetch-site': 'same-origin' },
  });
  expect(action.status).toBe(204);
  expect(await first.closed).toBe('cut'); // the answer has not ended
  expect(models.last.signal.aborted).toBe(false);
  expect(codeOf(() => inspector(chat, { publish: true }))).toBe('ERR_SSE_OPTION');
});
