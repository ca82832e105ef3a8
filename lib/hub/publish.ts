/*
 * `broadcast()`: a message becomes an entry of the log, at once or with a transaction of the application.
 * Invariant: an append that was called before `close()` is known to the shutdown, which waits for it.
 * Invariant: a message is encoded once, and before anything is stored.
 */

import type { BroadcastOptions } from '../api/message.ts';
import { channels } from '../diagnostics/channels.ts';
import { SseError, SseTypeError } from '../errors.ts';
import type { NewEntry } from '../journal/journal.ts';
import { channelsIn, channelsOf } from '../options/channel-names.ts';
import type { Settings } from '../options/options.ts';
import { boolean, invalid, nonEmptyString, rejectUnknownKeys, type Hints } from '../validation/validate.ts';
import { disconnectBody, encodeMessage, idLine } from '../wire/event-stream.ts';
import type { Hub } from './hub.ts';
import { brokenContract } from './journal-faults.ts';

const KNOWN: Record<keyof Required<BroadcastOptions>, true> = { to: true, except: true, key: true };
const FIELD = 'It is a field of the message: broadcast({ event, data, retry }, { to }).';
const EXAMPLE = 'an object of options such as { to: … }';
const NO_ID =
  'Leave it out: the log gives the id. An id of your own needs history: false, and is a field of the message.';
/** The cures for fields of the message, and for the options of a broadcast in better-sse. */
const HINTS: Hints = {
  event: FIELD,
  data: FIELD,
  retry: FIELD,
  id: NO_ID,
  eventId: NO_ID,
  filter: 'Let the handler join channels, and use to and except. A function would run for every connection and event.',
};

/**
 * Appends a message to the log. Resolves with its id once the log has it.
 * Few variables: V8 keeps all of them in one object while this function waits. (Promises are a quarter of the garbage of a private
 * event; Node 20.)
 */
export async function broadcast(hub: Hub, message: unknown, options?: BroadcastOptions): Promise<string> {
  const { id, entry } = toEntry(message, options, hub.settings); // at once: later changes of the message have no effect
  if (hub.isClosed) throw routerClosed('broadcast');
  hub.appends.begin();
  try {
    // An entry is appended in a microtask, in every state of the journal: what the caller does next in the tick precedes it.
    await (hub.opener.isOpen ? undefined : journalIsOpen(hub, 'broadcast'));
    const start = channels.broadcast.hasSubscribers ? performance.now() : undefined;
    const position = checkPosition(await hub.journal.append(entry));
    hub.appends.onStored(position, entry.key !== undefined);
    hub.counters.broadcasts++;
    if (start !== undefined) publishStored(hub, position, entry, performance.now() - start);
    return hub.settings.resumable ? position : id;
  } finally {
    hub.appends.end();
  }
}

function checkPosition(position: unknown): string {
  if (typeof position === 'string') return position;
  throw brokenContract('The result of append()', 'the id of the entry', position);
}

function publishStored({ router }: Hub, id: string, { to, except, body }: NewEntry, ms: number): void {
  channels.broadcast.publish({ router, id, to, except, bytes: body.byteLength, ms });
}

/**
 * Returns a `broadcast()` that makes its entries part of a transaction of the application.
 * @throws {SseTypeError} `ERR_SSE_OPTION` for a journal without transactions, and for what is no transaction.
 */
export function broadcastWithin(
  { journal, settings, counters, appends }: Hub,
  transaction: unknown,
): (message: unknown, options?: BroadcastOptions) => Promise<void> {
  if (journal.within === undefined) {
    throw new SseTypeError(
      'ERR_SSE_OPTION',
      'within() needs a journal with transactions, and this one has none. Set history to postgresJournal(pool) of sse-router/postgres.',
    );
  }
  const joined = journal.within(transaction);
  return async (message, options) => {
    const { entry } = toEntry(message, options, settings);
    appends.begin();
    try {
      await joined.append(entry);
      counters.broadcasts++;
    } finally {
      appends.end();
    }
  };
}

/** Appends a disconnect to the log. Resolves with its id once the log has it. @throws {SseTypeError} by rejecting, for invalid options */
export async function disconnect(hub: Hub, options: unknown): Promise<string> {
  rejectUnknownKeys('option of disconnect()', options as object, { to: true, end: true }, { isRequired: true });
  const { to, end } = options as { to?: unknown; end?: unknown };
  const channels = channelsOf(to);
  if (channels === undefined) {
    throw invalid('to', 'one channel or several', to, {
      code: 'ERR_SSE_CHANNEL',
      cure: 'It names the connections to end.',
    });
  }
  const isFinal = boolean('end', end);
  if (hub.isClosed) throw routerClosed('disconnect');
  hub.appends.begin();
  try {
    await journalIsOpen(hub, 'disconnect');
    const position = checkPosition(await hub.journal.append({ to: channels, body: disconnectBody(isFinal) }));
    hub.appends.onStored(position, false);
    return position;
  } finally {
    hub.appends.end();
  }
}

async function journalIsOpen({ opener }: Hub, call: string): Promise<void> {
  if (opener.isOpen || (await opener.whenOpen())) return;
  const reason = 'onError, or a warning of the process, has the reason.';
  if (opener.isStopped) {
    throw new SseError(
      'ERR_SSE_CLOSED',
      `The router was closed before its journal was open, so ${call}() has stored nothing. ${reason}`,
    );
  }
  throw new SseError('ERR_SSE_JOURNAL', `The journal could not be opened in time, so nothing was stored. ${reason}`);
}

/** Returns the error for a call to a closed router. A timer that ignores its promise ends the process with this text. */
function routerClosed(call: string): SseError {
  return new SseError(
    'ERR_SSE_CLOSED',
    `${call}() must be called before events.close() has closed the router; received a call after that, so nothing was stored. Stop what calls it first, for example with clearInterval(), then call events.close().`,
  );
}

/** Returns the cure for the name of an event as the second argument, where express-sse and better-sse take it. */
function nameCure(name: string): string {
  const shown = /^[\w:. -]{1,40}$/.test(name) ? `'${name}'` : '…';
  return `The name belongs to the message: { event: ${shown}, data: … }.`;
}

/** @throws {SseTypeError} for a message that cannot be sent, and for invalid channel names */
function toEntry(
  message: unknown,
  options: BroadcastOptions = {},
  { serialize, resumable, controlEvents }: Pick<Settings, 'serialize' | 'resumable' | 'controlEvents'>,
): { id: string; entry: NewEntry } {
  if (typeof options === 'string')
    throw invalid('The second argument of broadcast()', EXAMPLE, options, { cure: nameCure(options) });
  rejectUnknownKeys('option of broadcast()', options, KNOWN, { hints: HINTS }); // a misspelt `to` would reach every connection
  const { key } = options;
  const { id, body } = encodeMessage(message, serialize, controlEvents);
  if (id !== undefined && resumable) {
    throw new SseTypeError(
      'ERR_SSE_ID',
      `The id of a broadcast must be the log's; received ${JSON.stringify(id)}. Leave it out, or set history: false.`,
    );
  }
  if (key !== undefined) nonEmptyString('key', key, { cure: 'Leave it out for a broadcast without a key.' });
  const entry: { to?: readonly string[]; except?: readonly string[]; key?: string; body: Uint8Array } = {
    body: Buffer.from(id === undefined ? body : idLine(id) + body),
  };
  // For an engine that writes entries down, a member with the value undefined differs from a missing one.
  const receivers = channelsIn(options, 'to', 'to reach every connection');
  if (receivers !== undefined) entry.to = receivers;
  const excepted = channelsIn(options, 'except', 'for no exception');
  if (excepted !== undefined && excepted.length > 0) entry.except = excepted;
  if (key !== undefined) entry.key = key;
  return { id: id ?? '', entry };
}
