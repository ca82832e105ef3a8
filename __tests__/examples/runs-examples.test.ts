/*
 * The examples of runs, read by the clients that they are for.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { clear, post, read, start } from './example-process.ts';
import { startRedis } from '../fixtures/redis-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'runs-examples-'));
const TEXT = join(folder, 'text.md');
const answer =
  'Heartbeats are comments that the router writes into silent streams, so that proxies keep the connection open longer.';
writeFileSync(TEXT, `# Title\n\n${answer}\n`);

afterEach(clear);
afterAll(() => rmSync(folder, { recursive: true }));

const ask = (url: string, body: object) =>
  read(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });

/** Reads a response to its end: the text of its messages, and the data of its `end` event. */
async function readAll({ next }: Awaited<ReturnType<typeof read>>): Promise<[text: string, end: string | undefined]> {
  let text = '';
  for (let one = await next(); one; one = await next()) {
    if (one.event === 'end') return [text, one.data];
    text += one.data;
  }
  return [text, undefined];
}

describe('runs', () => {
  test('an answer continues when its client has disconnected, and another client reads it from its first token', async () => {
    const example = await start('runs.ts', { TEXT });
    const first = await ask(`${example.url}/answers`, { id: 'a1', prompt: 'heartbeats' });
    expect((await first.next())!.data).toBe('Heartbeats');
    first.disconnect();
    expect(await readAll(await read(`${example.url}/answers/a1`))).toEqual([answer, 'done']);
    expect((await example.stop()).code).toBe(0);
  });

  test('a request without a JSON body is answered with 400 and the reason', async () => {
    const example = await start('runs.ts', { TEXT });
    const response = await fetch(`${example.url}/answers`, { method: 'POST' });
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringMatching(/^The run id of this request must be a string .*; received undefined\.\n$/),
    ]);
    expect((await example.stop()).code).toBe(0);
  });

  test('DELETE stops an answer', async () => {
    const example = await start('runs.ts', { TEXT });
    const reader = await ask(`${example.url}/answers`, { id: 'a1', prompt: 'heartbeats' });
    await reader.next();
    expect((await fetch(`${example.url}/answers/a1`, { method: 'DELETE' })).status).toBe(202);
    const [text, end] = await readAll(reader);
    expect([answer.startsWith(`Heartbeats${text}`), end]).toEqual([true, 'stopped']);
    await example.prints(/stopped after \d+ tokens/);
    expect((await example.stop()).code).toBe(0);
  });
});

test('runs-openai: the official client reads an answer; a request with the same key joins it; GET reads it again', async () => {
  const example = await start('runs-openai.ts', { TEXT });
  const client = new OpenAI({ apiKey: 'any', baseURL: `${example.url}/v1`, maxRetries: 0 });
  const messages = [{ role: 'user' as const, content: 'heartbeats' }];
  const complete = async (): Promise<string> => {
    let text = '';
    const headers = { 'Idempotency-Key': 'k1' };
    for await (const chunk of await client.chat.completions.create({ model: 'm', messages, stream: true }, { headers }))
      text += chunk.choices[0]!.delta.content ?? '';
    return text;
  };
  expect(await Promise.all([complete(), complete()])).toEqual([answer, answer]);
  expect(example.output().match(/finished after/g)).toHaveLength(1);
  const again = await read(`${example.url}/v1/chat/completions/k1`);
  let last = '';
  for (let one = await again.next(); one; one = await again.next()) last = one.data;
  expect(last).toBe('[DONE]');
  expect((await example.stop()).code).toBe(0);
});

test('runs-worker: a worker produces the answer of a queued question', async () => {
  const redis = await startRedis();
  try {
    const example = await start('runs-worker.ts', { TEXT, REDIS_URL: redis.url });
    const response = await post(`${example.url}/answers`, { prompt: 'heartbeats' });
    expect(response.status).toBe(202);
    expect(await readAll(await read(`${example.url}${response.headers.get('location')}`))).toEqual([answer, 'done']);
    expect((await example.stop()).code).toBe(0);
  } finally {
    await redis.stop();
  }
});

test('runs-trpc: a subscription reads an answer, and continues after the id that its client has', async () => {
  const example = await start('runs-trpc.ts', { TEXT });
  expect((await post(`${example.url}/trpc/ask`, { id: 'a1', prompt: 'heartbeats' })).status).toBe(200);
  const subscribe = (lastEventId?: string) => {
    const input = encodeURIComponent(JSON.stringify({ id: 'a1' }));
    return read(`${example.url}/trpc/answer?input=${input}`, {
      headers: { Accept: 'text/event-stream', ...(lastEventId && { 'Last-Event-ID': lastEventId }) },
    });
  };
  const first = await subscribe();
  expect(await first.next()).toMatchObject({ event: 'connected' });
  const { id } = (await first.next())!;
  first.disconnect();
  const { next } = await subscribe(id);
  let text = '';
  for (let one = await next(); one; one = await next()) {
    if (one.event !== 'message') continue;
    const { token, status } = JSON.parse(one.data) as { token?: string; status?: string };
    text += token ?? '';
    if (status !== undefined) expect([`Heartbeats${text}`, status]).toEqual([answer, 'done']);
    if (status !== undefined) break;
  }
  expect((await example.stop()).code).toBe(0);
});
