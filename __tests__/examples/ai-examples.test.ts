/*
 * The examples for language models, read by the clients that they are for.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DefaultChatTransport, readUIMessageStream, type UIMessage } from 'ai';
import OpenAI from 'openai';
import { clear, read, start } from './example-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'ai-examples-'));
const TEXT = join(folder, 'text.md');
const answer =
  'Heartbeats are comments that the router writes into silent streams, so that proxies keep the connection open longer.';
writeFileSync(TEXT, `# Title\n\n${answer}\n`);

afterEach(clear);
afterAll(() => rmSync(folder, { recursive: true }));

async function complete(url: string, onToken: (token: string) => void, signal?: AbortSignal): Promise<string | null> {
  const client = new OpenAI({ apiKey: 'any', baseURL: `${url}/v1`, maxRetries: 0 });
  const messages = [{ role: 'user' as const, content: 'heartbeats' }];
  let finish: string | null = null;
  for await (const chunk of await client.chat.completions.create({ model: 'm', messages, stream: true }, { signal })) {
    onToken(chunk.choices[0]!.delta.content ?? '');
    finish = chunk.choices[0]!.finish_reason;
  }
  return finish;
}

describe('openai-endpoint', () => {
  test('the official client reads an answer', async () => {
    const example = await start('openai-endpoint.ts', { TEXT });
    let text = '';
    expect(await complete(example.url, (token) => (text += token))).toBe('stop');
    expect(text).toBe(answer);
    expect((await example.stop()).code).toBe(0);
  });

  test('it reports an answer that fails, and stops one that it does not want', async () => {
    const example = await start('openai-endpoint.ts', { TEXT, FAIL_AT: ' silent' });
    let text = '';
    await expect(complete(example.url, (token) => (text += token))).rejects.toThrow(/./);
    expect(text).toBe('Heartbeats are comments that the router writes into');
    const controller = new AbortController();
    await complete(example.url, (token) => token === ' are' && controller.abort(), controller.signal).catch(() => {});
    await example.prints(/stopped after \d+ tokens: client/);
    expect((await example.stop()).code).toBe(0);
  });
});

test('use-chat: the transport of useChat reads an answer', async () => {
  const example = await start('use-chat.ts', { TEXT });
  const transport = new DefaultChatTransport({ api: `${example.url}/api/chat` });
  const stream = await transport.sendMessages({
    trigger: 'submit-message',
    chatId: 'c',
    messageId: undefined,
    abortSignal: undefined,
    messages: [{ id: 'u', role: 'user', parts: [{ type: 'text', text: 'heartbeats' }] }],
  });
  let last: UIMessage | undefined;
  for await (const message of readUIMessageStream({ stream, terminateOnError: true })) last = message;
  expect(last!.parts).toEqual([expect.objectContaining({ type: 'text', text: answer, state: 'done' })]);
  expect((await example.stop()).code).toBe(0);
});

describe('upstream-stream', () => {
  async function chain(env: Record<string, string> = {}) {
    const upstream = await start('openai-endpoint.ts', { TEXT, ...env });
    const example = await start('upstream-stream.ts', { UPSTREAM: `${upstream.url}/v1/chat/completions` });
    const body = JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content: 'heartbeats' }] });
    const ask = () =>
      read(`${example.url}/answers`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    return { upstream, example, ask, body };
  }

  test('the events arrive as the upstream sent them', async () => {
    const { upstream, example, ask } = await chain();
    const { next } = await ask();
    let text = '';
    for (let one = await next(); one!.data !== '[DONE]'; one = await next()) {
      text += (JSON.parse(one!.data) as { choices: [{ delta: { content?: string } }] }).choices[0].delta.content ?? '';
    }
    expect(text).toBe(answer);
    expect(await next()).toBeUndefined();
    expect((await example.stop()).code).toBe(0);
    expect((await upstream.stop()).code).toBe(0);
  });

  test('a failure of the upstream breaks the answer off, and a client that leaves stops the upstream', async () => {
    const { upstream, example, ask, body } = await chain({ FAIL_AT: ' silent' });
    const headers = { 'Content-Type': 'application/json' };
    const response = await fetch(`${example.url}/answers`, { method: 'POST', headers, body });
    await expect(response.text()).rejects.toThrow('terminated');
    const { next, disconnect } = await ask();
    await next();
    disconnect();
    await upstream.prints(/stopped after \d+ tokens: client/);
    expect((await example.stop()).code).toBe(0);
    expect((await upstream.stop()).code).toBe(0);
  });

  test('a status of the upstream is passed on', async () => {
    const upstream = await start('quick-start.ts');
    const example = await start('upstream-stream.ts', { UPSTREAM: `${upstream.url}/nowhere` });
    expect((await fetch(`${example.url}/answers`, { method: 'POST' })).status).toBe(404);
    expect((await example.stop()).code).toBe(0);
    expect((await upstream.stop()).code).toBe(0);
  });
});
