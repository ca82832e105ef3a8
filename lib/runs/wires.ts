/*
 * The three wires: how the chunks of a run, and its end, become events for a certain client.
 * Invariant: the text of an exception never becomes a part of an event.
 */

import { randomUUID } from 'node:crypto';
import type { Message } from '../api/message.ts';
import { encodeMessage, serializeDefault } from '../wire/event-stream.ts';
import type { RunInfo, Wire } from './api.ts';

const MESSAGE_FIELDS: ReadonlySet<string> = new Set(['event', 'data', 'id', 'retry']);
/** The text of the error event of a run that failed or is lost. The cause goes to `onError`. */
const FAILURE = 'The answer could not be completed.';
const DONE = '[DONE]';

/**
 * Sends each chunk as the data of an event, or the chunk itself if it is a message: an object with `event` or `data`, and no fields
 * but those of a message. The last event is `end`; its data is the status of the run. This is the default wire.
 */
export function events<C = unknown>(): Wire<C> {
  return {
    control: true,
    message: (chunk) => (isMessage(chunk) ? chunk : ({ data: chunk } as Message)),
    end: ({ status }) => ({ event: 'end', data: status }),
  };
}

/**
 * Sends chunks of the AI SDK's UI message stream, as `useChat()` expects them. A `start` chunk without a `messageId` gets a random
 * one, which is stored: a client that receives the answer again then replaces the message, and does not show it twice.
 * @see https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol#data-stream-protocol
 */
export function uiMessages<C = unknown>(): Wire<C> {
  return {
    control: false,
    headers: { 'x-vercel-ai-ui-message-stream': 'v1' },
    message: (chunk) => ({ data: JSON.stringify(withMessageId(chunk)) }),
    end: ({ status }) => {
      if (status === 'done') return DONE;
      return status === 'stopped'
        ? [{ data: { type: 'abort' } }, DONE]
        : [{ data: { type: 'error', errorText: FAILURE } }, DONE];
    },
  };
}

/**
 * Sends chunks of OpenAI's API, for example `chat.completion.chunk`, as OpenAI's clients expect them. After a failure, the client
 * receives an error event and no `[DONE]`, so it throws.
 * @see https://platform.openai.com/docs/api-reference/chat-streaming
 */
export function openai<C = unknown>(): Wire<C> {
  return {
    control: false,
    message: (chunk) => ({ data: JSON.stringify(chunk) }),
    end: ({ status }) => {
      if (status === 'done' || status === 'stopped') return DONE;
      return { data: { error: { message: FAILURE, type: 'server_error' } } };
    },
  };
}

/**
 * Returns the text of the last events of a run, without an `id` line; `''` if the wire has no end.
 * @throws {SseTypeError} for a message that cannot be sent; errors of the wire unchanged
 */
export function encodeEnd<C>(wire: Wire<C>, info: RunInfo): string {
  const end = wire.end?.(info);
  if (end === undefined || end === null) return '';
  const messages: readonly unknown[] = Array.isArray(end) ? end : [end];
  // The router's own names are allowed here: `end` is one.
  return messages.map((message) => encodeMessage(message, serializeDefault, false).body).join('');
}

function isMessage(chunk: unknown): chunk is Message {
  if (typeof chunk !== 'object' || chunk === null || Array.isArray(chunk)) return false;
  const keys = Object.keys(chunk);
  return keys.every((key) => MESSAGE_FIELDS.has(key)) && keys.some((key) => key === 'event' || key === 'data');
}

function withMessageId(chunk: unknown): unknown {
  if (typeof chunk !== 'object' || chunk === null || (chunk as { type?: unknown }).type !== 'start') return chunk;
  return (chunk as { messageId?: unknown }).messageId === undefined ? { ...chunk, messageId: randomUUID() } : chunk;
}
