/*
 * The clients of language models, unmodified, on a token stream of this router: OpenAI (Chat and Responses), Anthropic, the AI SDK.
 * Each reads a complete answer, notices an answer that did not finish, and stops one, in each environment.
 */

import Anthropic from '@anthropic-ai/sdk';
import { AbstractChat, DefaultChatTransport, readUIMessageStream, type ChatState, type UIMessage } from 'ai';
import compression from 'compression';
import express, { type RequestHandler } from 'express';
import OpenAI from 'openai';
import { sse, type Connection, type Message, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { eventually, pause, serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';

type Answer = AsyncGenerator<Message | string>;

/** A protocol: how a server writes tokens in it, and how its client reads them. */
interface Protocol {
  readonly path: string;
  readonly headers?: Record<string, string>;
  answer(tokens: AsyncIterable<string>): Answer;
  /** Reads an answer. Rejects if the client considers it failed. */
  read(site: string, onToken: (token: string) => void, signal: AbortSignal): Promise<void>;
}

const choice = (delta: object, finish: string | null = null) => ({
  id: 'c1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'm',
  choices: [{ index: 0, delta, finish_reason: finish }],
});
const openai = (site: string): OpenAI => new OpenAI({ apiKey: 'k', baseURL: site, maxRetries: 0 });
const response = (status: string, text: string) => ({
  id: 'r1',
  object: 'response',
  status,
  model: 'm',
  output: [{ type: 'message', id: 'm1', role: 'assistant', content: [{ type: 'output_text', text, annotations: [] }] }],
});

async function* chatAnswer(tokens: AsyncIterable<string>): Answer {
  yield { data: choice({ role: 'assistant', content: '' }) };
  for await (const content of tokens) yield { data: choice({ content }) };
  yield { data: choice({}, 'stop') };
}

async function readChat(site: string, onToken: (token: string) => void, signal: AbortSignal): Promise<void> {
  const request = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }], stream: true as const };
  let finish: string | null = null;
  for await (const chunk of await openai(site).chat.completions.create(request, { signal })) {
    const [{ delta, finish_reason }] = chunk.choices as [(typeof chunk.choices)[0]];
    if (delta.content) onToken(delta.content);
    finish = finish_reason;
  }
  if (!signal.aborted) expect(finish).toBe('stop');
}

const user = { id: 'u1', role: 'user' as const, parts: [{ type: 'text' as const, text: 'hi' }] };

async function* uiAnswer(tokens: AsyncIterable<string>): Answer {
  yield { data: { type: 'start', messageId: 'a1' } };
  yield { data: { type: 'text-start', id: 't1' } };
  for await (const delta of tokens) yield { data: { type: 'text-delta', id: 't1', delta } };
  yield { data: { type: 'text-end', id: 't1' } };
  yield { data: { type: 'finish' } };
  yield '[DONE]';
}

const PROTOCOLS: Record<string, Protocol> = {
  'openai, Chat': {
    path: '/chat/completions',
    async *answer(tokens) {
      yield* chatAnswer(tokens);
      yield '[DONE]';
    },
    read: readChat,
  },
  'openai, Chat without [DONE]': { path: '/chat/completions', answer: chatAnswer, read: readChat },
  'openai, Responses': {
    path: '/responses',
    async *answer(tokens) {
      const event = (type: string, more: object) => ({ event: type, data: { type, ...more } });
      let text = '';
      yield event('response.created', { response: response('in_progress', '') });
      for await (const delta of tokens) {
        text += delta;
        yield event('response.output_text.delta', { item_id: 'm1', output_index: 0, content_index: 0, delta });
      }
      yield event('response.completed', { response: response('completed', text) });
    },
    async read(site, onToken, signal) {
      let status: string | undefined;
      for await (const event of await openai(site).responses.create(
        { model: 'm', input: 'hi', stream: true },
        { signal },
      )) {
        if (event.type === 'response.output_text.delta') onToken(event.delta);
        if (event.type === 'response.completed') ({ status } = event.response);
      }
      if (!signal.aborted) expect(status).toBe('completed');
    },
  },
  '@anthropic-ai/sdk': {
    path: '/v1/messages',
    async *answer(tokens) {
      const event = (type: string, more: object = {}) => ({ event: type, data: { type, ...more } });
      const message = { id: 'm1', type: 'message', role: 'assistant', content: [], model: 'm', stop_reason: null };
      yield event('message_start', { message: { ...message, usage: { input_tokens: 1, output_tokens: 1 } } });
      yield event('content_block_start', { index: 0, content_block: { type: 'text', text: '' } });
      for await (const text of tokens) {
        yield event('content_block_delta', { index: 0, delta: { type: 'text_delta', text } });
        yield event('ping');
      }
      yield event('content_block_stop', { index: 0 });
      yield event('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 2 } });
      yield event('message_stop');
    },
    async read(site, onToken, signal) {
      const client = new Anthropic({ apiKey: 'k', baseURL: site, maxRetries: 0 });
      const request = { model: 'm', max_tokens: 9, messages: [{ role: 'user' as const, content: 'hi' }] };
      const stream = client.messages.stream(request, { signal }).on('text', onToken);
      const { stop_reason } = await stream.finalMessage();
      expect(stop_reason).toBe('end_turn');
    },
  },
  'ai, DefaultChatTransport': {
    path: '/chat',
    headers: { 'x-vercel-ai-ui-message-stream': 'v1' },
    answer: uiAnswer,
    async read(site, onToken, abortSignal) {
      const stream = await new DefaultChatTransport({ api: `${site}/chat` }).sendMessages({
        trigger: 'submit-message',
        chatId: 'c1',
        messageId: undefined,
        messages: [user],
        abortSignal,
      });
      let last: string | undefined;
      for await (const chunk of stream as unknown as AsyncIterable<{ type: string; delta?: string }>) {
        if (chunk.type === 'text-delta') onToken(chunk.delta!);
        last = chunk.type;
      }
      expect(last).toBe('finish');
    },
  },
  'ai, readUIMessageStream': {
    path: '/chat',
    answer: uiAnswer,
    async read(site, onToken, abortSignal) {
      const stream = await new DefaultChatTransport({ api: `${site}/chat` }).sendMessages({
        trigger: 'submit-message',
        chatId: 'c1',
        messageId: undefined,
        messages: [user],
        abortSignal,
      });
      let text = '';
      for await (const message of readUIMessageStream({ stream, terminateOnError: true })) {
        const now = textOf(message);
        if (now.length > text.length) onToken(now.slice(text.length));
        text = now;
      }
    },
  },
  'ai, the logic of useChat': {
    path: '/chat',
    answer: uiAnswer,
    async read(site, onToken, signal) {
      const chat = new Chat(`${site}/chat`, onToken);
      signal.addEventListener('abort', () => void chat.stop());
      await chat.sendMessage({ text: 'hi' });
      if (chat.status === 'error') throw chat.error!;
      expect(chat.status).toBe('ready');
    },
  },
};

const textOf = ({ parts }: UIMessage): string => parts.map((part) => (part.type === 'text' ? part.text : '')).join('');

/** A chat as `useChat` keeps it, without React. */
class Chat extends AbstractChat<UIMessage> {
  constructor(api: string, onToken: (token: string) => void) {
    let text = '';
    const state: ChatState<UIMessage> = {
      status: 'ready',
      error: undefined,
      messages: [],
      pushMessage: (message) => void (state.messages = [...state.messages, message]),
      popMessage: () => void (state.messages = state.messages.slice(0, -1)),
      replaceMessage(index, message) {
        state.messages = state.messages.with(index, message);
        const now = textOf(message);
        if (now.length > text.length) onToken(now.slice(text.length));
        text = now;
      },
      snapshot: structuredClone,
    };
    super({ state, transport: new DefaultChatTransport({ api }), onError: () => {} });
  }
}

const TOKENS = ['Hello', ',', ' wörld', '\n!'];

const ENVIRONMENTS: Record<string, { options?: SseOptions; front?: RequestHandler[] }> = {
  alone: { options: { history: false } },
  'with a history': {},
  'behind compression()': { options: { history: false }, front: [compression()] },
  'behind compression() that compresses': {
    options: { history: false, headers: { 'Cache-Control': 'no-cache' } },
    front: [compression({ threshold: 0 })],
  },
  'with compress: true': { options: { history: false, compress: true } },
  'with compress: true and a history, beside GET': {
    options: { compress: true, methods: ['GET', 'POST'], controlEvents: false },
  },
};

interface Site {
  readonly url: string;
  readonly events: SseRouter;
  readonly conn: () => Connection;
  /** What the model has done: the tokens that it has produced, and whether it has been released. */
  readonly model: { produced: number; released: boolean };
  readonly onError: jest.Mock;
}

/** @param next Called before each token, with its number. */
async function site(
  protocol: Protocol,
  { options, front = [] }: { options?: SseOptions; front?: RequestHandler[] },
  next: (n: number) => unknown = () => pause(1),
): Promise<Site> {
  const model = { produced: 0, released: false };
  async function* complete(): AsyncGenerator<string> {
    try {
      for (const [n, token] of TOKENS.entries()) {
        await next(n);
        model.produced++;
        yield token;
      }
    } finally {
      model.released = true;
    }
  }
  let conn: Connection | undefined;
  const onError = jest.fn();
  const events = sse(
    async function* (one, req) {
      conn = one;
      expect(req.body).toMatchObject(protocol.path === '/chat' ? { messages: [{ role: 'user' }] } : { model: 'm' });
      yield* protocol.answer(complete());
    },
    { methods: ['POST'], onError, ...options, headers: { ...protocol.headers, ...(options?.headers as object) } },
  );
  later(() => events.close());
  const { url } = await serve((app) => {
    for (const one of front) app.use(one);
    app.use(protocol.path, express.json(), events);
  });
  return { url, events, conn: () => conn!, model, onError };
}

const never = new AbortController().signal;

describe.each(Object.entries(ENVIRONMENTS))('%s', (_environment, environment) => {
  describe.each(Object.entries(PROTOCOLS))('%s', (_protocol, protocol) => {
    test('reads a complete answer', async () => {
      const { url, conn } = await site(protocol, environment);
      const tokens: string[] = [];
      await protocol.read(url, (token) => tokens.push(token), never);
      expect(tokens.join('')).toBe(TOKENS.join(''));
      expect(conn().signal.reason).toBe('end');
    });

    test('fails if the model fails in the middle, after the tokens until then', async () => {
      const error = new Error('of the model');
      const { url, conn, onError } = await site(protocol, environment, async (n) => {
        await pause(1);
        if (n === 2) throw error;
      });
      const tokens: string[] = [];
      await expect(protocol.read(url, (token) => tokens.push(token), never)).rejects.toThrow(/./);
      expect(tokens.join('')).toBe('Hello,');
      expect(onError.mock.calls).toEqual([[error, conn()]]);
    });

    test('stops the model when it stops', async () => {
      const { url, conn, model } = await site(protocol, environment, (n) => (n < 2 ? pause(1) : new Promise(() => {})));
      const controller = new AbortController();
      const tokens: string[] = [];
      const reading = protocol
        .read(
          url,
          (token) => (tokens.push(token), tokens.join('') === 'Hello,' && controller.abort()),
          controller.signal,
        )
        .catch(() => {});
      await reading;
      await eventually(() => model.released || conn().signal.aborted);
      expect(conn().signal.reason).toBe('client');
      expect(model.produced).toBe(2);
    });
  });
});

test.each(Object.entries(PROTOCOLS))('%s fails if the model fails before the first token', async (_name, protocol) => {
  const { url } = await site(protocol, {}, () => Promise.reject(new Error('of the model')));
  await expect(protocol.read(url, () => {}, never)).rejects.toThrow(/./);
});

test.each(Object.entries(PROTOCOLS))('%s fails if the server shuts down in the middle', async (_name, protocol) => {
  const { url, events } = await site(protocol, {}, (n) => (n < 2 ? pause(1) : new Promise(() => {})));
  const tokens: string[] = [];
  const reading = protocol.read(
    url,
    (token) => {
      tokens.push(token);
      if (tokens.join('') === 'Hello,') void events.close();
    },
    never,
  );
  await expect(reading).rejects.toThrow(/./);
  expect(tokens.join('')).toBe('Hello,');
});

test.each(Object.entries(PROTOCOLS))('%s finishes if the shutdown waits for it', async (_name, protocol) => {
  const { url, events } = await site(protocol, {}, (n) => pause(n < 2 ? 1 : 20));
  const tokens: string[] = [];
  await protocol.read(
    url,
    (token) => {
      tokens.push(token);
      if (tokens.length === 1) void events.close({ wait: 5000 });
    },
    never,
  );
  expect(tokens.join('')).toBe(TOKENS.join(''));
});

test.each(Object.entries(PROTOCOLS))('%s gets 503 during a shutdown', async (_name, protocol) => {
  const { url, events } = await site(protocol, {});
  await events.close();
  await expect(protocol.read(url, () => {}, never)).rejects.toThrow(/503|closing/);
});

test('an error that the protocol has an event for reaches the client in it', async () => {
  const anthropic = { ...PROTOCOLS['@anthropic-ai/sdk']! };
  anthropic.answer = async function* () {
    yield { event: 'error', data: { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } } };
  };
  const first = await site(anthropic, {});
  await expect(anthropic.read(first.url, () => {}, never)).rejects.toThrow('Overloaded');
  const responses = { ...PROTOCOLS['openai, Responses']! };
  responses.answer = async function* () {
    yield { event: 'error', data: { type: 'error', error: { message: 'The model is overloaded' } } };
  };
  const second = await site(responses, {});
  await expect(responses.read(second.url, () => {}, never)).rejects.toThrow('The model is overloaded');
});
