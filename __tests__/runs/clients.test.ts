/*
 * Unmodified clients on a router of runs: the AI SDK, OpenAI's client, an EventSource of Node and of a polyfill, and fetch-event-source.
 * Each reads an answer, loses its connection in the middle, and has the whole answer in the end.
 */
import { readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { DefaultChatTransport, readUIMessageStream, type UIMessage, type UIMessageChunk } from 'ai';
import { EventSource } from 'eventsource';
import express from 'express';
import OpenAI from 'openai';
import { openai, uiMessages } from '../../lib/runs/index.ts';
import { eventually } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';
import { wireTo } from '../fixtures/wire.ts';
import { site, until, type RunsSite } from './sites.ts';

jest.setTimeout(30_000);

const portOf = ({ server }: RunsSite): number => (server.address() as { port: number }).port;

describe('the AI SDK', () => {
  const user = { id: 'u1', role: 'user' as const, parts: [{ type: 'text' as const, text: 'hi' }] };
  const chatOf = (made: RunsSite): DefaultChatTransport<UIMessage> =>
    new DefaultChatTransport({ api: `${made.url}/chat` });
  const send = (made: RunsSite, abortSignal?: AbortSignal): Promise<ReadableStream<UIMessageChunk>> =>
    chatOf(made).sendMessages({
      trigger: 'submit-message',
      chatId: 'c1',
      messageId: undefined,
      messages: [user],
      abortSignal,
    });
  const rejoin = (made: RunsSite): Promise<ReadableStream<UIMessageChunk> | null> =>
    chatOf(made).reconnectToStream({ chatId: 'c1' });
  const ui = (): Promise<RunsSite> => site({ wire: uiMessages(), onError: () => {} });

  /** Reads a stream to its end, as a message. */
  async function messageOf(stream: ReadableStream<UIMessageChunk>): Promise<UIMessage> {
    let last: UIMessage | undefined;
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) last = message;
    return last!;
  }
  const textOf = ({ parts }: UIMessage): string =>
    parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
  const begin = [{ type: 'start' }, { type: 'text-start', id: 't' }];
  const delta = (text: string) => ({ type: 'text-delta', id: 't', delta: text });
  const end = [{ type: 'text-end', id: 't' }, { type: 'finish' }];

  test('a page that was reloaded receives the whole answer again, as the same message', async () => {
    const made = await ui();
    const abort = new AbortController();
    const first = await send(made, abort.signal);
    made.models.last.emit(...begin, delta('Hello'));
    const chunks: UIMessageChunk[] = [];
    const reader = first.getReader();
    while (chunks.at(-1)?.type !== 'text-delta') chunks.push((await reader.read()).value!);
    abort.abort(); // the reload
    made.models.last.emit(delta(', wörld'));
    const resumed = await rejoin(made);
    const [a, b] = resumed!.tee();
    made.models.last.emit(...end);
    made.models.last.finish();
    const message = await messageOf(a);
    expect(textOf(message)).toBe('Hello, wörld');
    const { value } = await b.getReader().read();
    expect(value).toEqual(chunks[0]); // with the same message id
    expect((value as { messageId?: string }).messageId).toMatch(/^.{10,}$/);
    expect(message.id).toBe((value as { messageId: string }).messageId);
    expect(made.models.calls).toHaveLength(1);
    expect(textOf(await messageOf((await rejoin(made))!))).toBe('Hello, wörld'); // after the end
  });

  test('there is nothing to resume: null', async () => {
    const made = await ui();
    expect(await rejoin(made)).toBeNull();
  });

  test('a second tab follows, and stops the answer', async () => {
    const made = await ui();
    const first = send(made);
    await eventually(() => made.models.calls.length === 1);
    made.models.last.emit(...begin, delta('a'));
    const [one, two] = [await first, (await rejoin(made))!];
    const types = async (stream: ReadableStream<UIMessageChunk>): Promise<string[]> => {
      const all: string[] = [];
      for await (const chunk of stream as unknown as AsyncIterable<UIMessageChunk>) all.push(chunk.type);
      return all;
    };
    const both = Promise.all([types(one), types(two)]);
    await until(async () => (await made.chat.status('c1'))?.chunks === 3);
    expect((await made.ask('/c1', { method: 'DELETE' })).status).toBe(202);
    const expected = ['start', 'text-start', 'text-delta', 'abort'];
    expect(await both).toEqual([expected, expected]);
    expect(made.models.last.signal.aborted).toBe(true);
  });

  test('a failed answer fails in the client, without the text of the exception', async () => {
    const made = await ui();
    const stream = await send(made);
    made.models.last.emit(...begin);
    made.models.last.fail(new Error('secret'));
    const error = await messageOf(stream).catch((reason: unknown) => reason);
    expect(String(error)).toMatch(/Error/);
    expect(String(error)).not.toContain('secret');
  });

  test('a new message to the same chat stops the answer that runs', async () => {
    const made = await ui();
    await send(made);
    const second = await send(made);
    expect(made.models.calls.map(({ signal }) => signal.aborted)).toEqual([true, false]);
    made.models.last.emit(...begin, delta('2'), ...end);
    made.models.last.finish();
    expect(textOf(await messageOf(second))).toBe('2');
  });

  test('an answer is broken off by a shutdown of the process that only reads it', async () => {
    const made = await ui();
    const stream = await send(made);
    made.models.last.emit(...begin, delta('a'));
    const reading = messageOf(stream);
    await until(async () => (await made.chat.status('c1'))?.chunks === 3);
    void made.chat.close();
    await expect(reading).rejects.toThrow(/./); // the run is lost
    await expect(send(made)).rejects.toThrow(/./);
    await expect(rejoin(made)).rejects.toThrow(/./);
  });
});

describe('OpenAI', () => {
  const choice = (delta: object, finish: string | null = null) => ({
    id: 'c1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'm',
    choices: [{ index: 0, delta, finish_reason: finish }],
  });
  const request = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }], stream: true as const };
  async function compatible(): Promise<RunsSite & { client: OpenAI }> {
    const made = await site({ wire: openai(), id: undefined as never, onError: () => {} }, (app, chat) =>
      app.use('/chat/completions', express.json(), chat),
    );
    return { ...made, client: new OpenAI({ apiKey: 'k', baseURL: made.url, maxRetries: 0 }) };
  }

  test('reads an answer to its end; others read the same from its place', async () => {
    const { client, models, url } = await compatible();
    const { data, response } = await client.chat.completions.create(request).withResponse();
    const place = new URL(response.headers.get('location')!, `${url}/chat/completions`);
    models.last.emit(choice({ content: 'Hello' }), choice({ content: '!' }), choice({}, 'stop'));
    models.last.finish();
    let text = '';
    for await (const { choices } of data) text += choices[0]!.delta.content ?? '';
    expect(text).toBe('Hello!');
    const again = await (await fetch(place)).text();
    expect(
      again
        .match(/data: .*/g)!
        .map((line) => line.slice(6))
        .at(-1),
    ).toBe('[DONE]');
    expect(again).not.toMatch(/^(id|event|retry):/m);
  });

  test('throws for a failed answer, without the text of the exception', async () => {
    const { client, models } = await compatible();
    const stream = await client.chat.completions.create(request);
    models.last.emit(choice({ content: 'Hello' }));
    models.last.fail(new Error('secret'));
    const error = await (async () => {
      for await (const _ of stream);
    })().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OpenAI.APIError);
    expect(String(error)).not.toContain('secret');
  });

  test('an answer that is stopped ends in order', async () => {
    const { client, models, chat } = await compatible();
    const { data, response } = await client.chat.completions.create(request).withResponse();
    models.last.emit(choice({ content: 'Hello' }));
    let text = '';
    for await (const { choices } of data) {
      text += choices[0]!.delta.content ?? '';
      expect(await chat.stop(response.headers.get('x-run-id')!)).toBe(true);
    }
    expect(text).toBe('Hello');
  });
});

describe.each<[name: string, make: () => new (url: string) => EventSource, stops: boolean]>([
  ['eventsource', () => EventSource, true],
  // This client fails on the missing body of a 204, and retries for ever: its page must close it at the `end` event.
  ['event-source-polyfill', yaffle, false],
])('%s', (_name, make, stops) => {
  test('a page continues after every lost connection, and stops after the end', async () => {
    const made = await site();
    const wire = await wireTo(portOf(made));
    later(() => wire.close());
    await made.post('r');
    made.models.last.emit('a', 'b');
    const source = new (make())(`http://127.0.0.1:${wire.port}/chat/r`);
    later(() => source.close());
    const seen: string[] = [];
    const ends: string[] = [];
    source.addEventListener('message', ({ data }) => seen.push(JSON.parse(JSON.stringify(data)) as string));
    source.addEventListener('end', ({ data }) => ends.push(data as string));
    await eventually(() => seen.length === 2);
    wire.cut();
    made.models.last.emit('c');
    await eventually(() => seen.length === 3, 10_000);
    made.models.last.emit('d');
    made.models.last.finish();
    await eventually(() => ends.length === 1);
    expect(seen).toEqual(['a', 'b', 'c', 'd']);
    expect(ends).toEqual(['done']);
    if (stops) await eventually(() => source.readyState === 2, 10_000); // it returned, and got 204
    expect(seen).toHaveLength(4);
    expect(made.models.calls).toHaveLength(1);
  });
});

describe('fetch-event-source', () => {
  beforeAll(() => {
    // It needs these globals of a browser.
    Object.assign(globalThis, { window: globalThis, document: Object.assign(new EventTarget(), { hidden: false }) });
  });
  afterAll(() => {
    for (const name of ['window', 'document']) Reflect.deleteProperty(globalThis, name);
  });

  test.each(['with the option id', 'with random ids'])(
    'posts again after a lost connection, and resumes: %s',
    async (how) => {
      const made = await site(how === 'with random ids' ? { id: undefined as never } : {});
      const wire = await wireTo(portOf(made));
      later(() => wire.close());
      const abort = new AbortController();
      later(() => abort.abort());
      const seen: string[] = [];
      const done = fetchEventSource(`http://127.0.0.1:${wire.port}/chat`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"id":"r"}',
        signal: abort.signal,
        openWhenHidden: true,
        onmessage: ({ event, data }) => void seen.push(event === '' ? data : `${event} ${data}`),
        onerror: () => 20,
      });
      await eventually(() => made.models.calls.length === 1);
      made.models.last.emit('a', 'b');
      await eventually(() => seen.length === 2);
      wire.cut();
      made.models.last.emit('c');
      await eventually(() => seen.length === 3, 10_000);
      made.models.last.finish();
      await done;
      expect(seen).toEqual(['a', 'b', 'c', 'end done']);
      expect(made.models.calls).toHaveLength(1);
    },
  );
});

/** Loads Yaffle's polyfill, which reads the globals of a browser when it is loaded. */
function yaffle(): new (url: string) => EventSource {
  const module = { exports: {} as { EventSourcePolyfill: new (url: string) => EventSource } };
  const source = readFileSync(require.resolve('event-source-polyfill'), 'utf8');
  const console = { error() {} }; // the polyfill prints every broken connection
  const globals = { fetch, Response, TextDecoder, TextEncoder, AbortController, Promise, setTimeout, clearTimeout };
  runInNewContext(source, { ...globals, console, module, exports: module.exports });
  return module.exports.EventSourcePolyfill;
}
