/*
 * `follow()`: server code receives broadcasts as an async iterator over the log.
 * Invariants: the iterator yields every matching event after its position, once and in order, or a `reset`. It holds one page of
 * entries at most, however slowly its consumer iterates.
 */

import { endableIterator } from '../api/endable-iterator.ts';
import { SubscriberGroup } from '../fanout/subscriber-groups.ts';
import type { Entry, ResetReason } from '../journal/journal.ts';
import { channelsIn } from '../options/channel-names.ts';
import { invalid, optionalSignal, rejectUnknownKeys } from '../validation/validate.ts';
import { decodeBody, isDisconnect } from '../wire/event-stream.ts';
import type { Hub } from './hub.ts';
import { checkReadResult } from './journal-faults.ts';

/** Which events `follow()` yields, and from where. */
export interface FollowOptions {
  /**
   * One channel or several. The iterator yields what a connection in these channels would receive: broadcasts without `to`
   * included, and those that `except` one of the channels not. An explicit `undefined` throws.
   * @defaultValue every broadcast
   */
  to?: string | readonly string[];
  /** The id of a broadcast, or `events.position`: the iterator begins with the next event. @defaultValue the position at the call */
  after?: string;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

/** One event of the log; or `reset`: events after the position are no longer in the log, and the iteration continues at `id`. */
export type FollowedEvent =
  | {
      type: 'event';
      /** The id of the broadcast; with `history: false` the application's own, or `''`. */
      id: string;
      event?: string;
      /**
       * The text of the event: a string as it was broadcast, other data as `serialize` wrote it. The event map does not type it,
       * because the log has only text, and another version of the application may have written it.
       */
      data: string;
      to?: readonly string[];
    }
  | { type: 'reset'; reason: ResetReason; id: string };

const KNOWN: Record<keyof Required<FollowOptions>, true> = { to: true, after: true, signal: true };
/** How many entries one step takes from the ring or the log. */
const PAGE_SIZE = 100;
/** The pause after a failed read. */
const RETRY_DELAY_MS = 500;

/** Iterates over the events that any process broadcasts. @throws {SseTypeError} `ERR_SSE_OPTION`, `ERR_SSE_CHANNEL` or `ERR_SSE_ID` */
export function follow(hub: Hub, options: FollowOptions = {}): AsyncIterableIterator<FollowedEvent> {
  rejectUnknownKeys('option of follow()', options, KNOWN);
  const { after, signal } = options;
  if (after !== undefined) checkAfter(hub, after);
  optionalSignal('signal', signal);
  const channels = channelsIn(options, 'to', 'to follow every channel');
  // Without `to`, the iterator receives the events of every channel.
  const group = channels && new SubscriberGroup('', [...channels]);
  // The position is taken at the call, not at the first next(); before the journal is open, at its opening.
  const { opener, ring } = hub;
  const start = opener.isOpen ? ring.headId : opener.whenOpen().then((isOpen) => (isOpen ? ring.headId : undefined));
  const matches = (entry: Entry): boolean => group === undefined || group.matches(entry);
  return endableIterator([signal], (ended) => iterate(hub, after, start, matches, ended));
}

function checkAfter(hub: Hub, after: unknown): void {
  const details = { code: 'ERR_SSE_ID', cure: 'Use events.position, or the id of a broadcast.' } as const;
  if (typeof after !== 'string' || after === '') throw invalid('after', 'the id of a broadcast', after, details);
  if (!hub.settings.resumable) {
    throw invalid('after', 'left out with history: false', after, { ...details, cure: 'Give the router a history.' });
  }
}

async function* iterate(
  hub: Hub,
  after: string | undefined,
  start: string | Promise<string | undefined>,
  matches: (entry: Entry) => boolean,
  signal: AbortSignal,
): AsyncGenerator<FollowedEvent, void> {
  const { ring, settings, journal } = hub;
  const stopped = (): boolean => hub.isClosed || signal.aborted;
  const head = await start;
  while (!hub.opener.isOpen && !stopped()) await hub.opener.whenOpen(); // oxlint-disable-line no-await-in-loop -- 10 s at a time
  if (stopped()) return; // without a journal, no id is known to be foreign
  let id = after ?? head ?? ring.headId;
  if (!journal.isId(id)) {
    id = ring.headId;
    yield { type: 'reset', reason: 'unknown', id };
  }
  while (!stopped()) {
    const n = ring.find(id);
    let entries: readonly Entry[];
    if (n !== undefined) {
      entries = hub.packets.slice(n, Math.min(ring.head, n + PAGE_SIZE));
      if (entries.length === 0) {
        await hub.whenAppended(signal);
        continue;
      }
    } else {
      const page = await readPage(hub, id, stopped);
      if (page === undefined) return;
      if (typeof page === 'string') {
        id = ring.headId;
        yield { type: 'reset', reason: page, id };
        continue;
      }
      entries = page;
      // Newer than this process, or the end of the log: the ring will reach it.
      if (entries.length === 0 && ring.find(id) === undefined) await hub.whenAppended(signal);
    }
    for (const entry of entries) {
      if (stopped()) return;
      id = entry.id;
      if (isDisconnect(entry.body) || !matches(entry)) continue;
      const { event, data, id: appId } = decodeBody(entry.body);
      if (data === undefined) continue; // a `retry` alone is no event
      yield {
        type: 'event',
        id: settings.resumable ? entry.id : (appId ?? ''),
        ...(event !== undefined && { event }),
        data,
        ...(entry.to && { to: entry.to }),
      };
    }
  }
}

/** Reads until the journal answers. Resolves with the reason if the position is not in the log, and with nothing once stopped. */
async function readPage(
  hub: Hub,
  after: string,
  stopped: () => boolean,
): Promise<readonly Entry[] | ResetReason | undefined> {
  for (let isFirst = true; !stopped(); isFirst = false) {
    try {
      const result = checkReadResult(await hub.journal.read(after, PAGE_SIZE)); // oxlint-disable-line no-await-in-loop -- the tries follow each other
      return result.ok ? result.entries : result.reason;
    } catch (error) {
      // A journal that is down has reported its reason.
      if (isFirst && hub.counters.journalUp) hub.report(error);
      // oxlint-disable-next-line no-await-in-loop -- the engine is down
      await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS).unref());
    }
  }
  return undefined;
}
