/*
 * The last events of the log, as one viewer sees them.
 * Of the wire format it reads only what `wire/event-stream.ts` writes: `event: ` and `data: ` lines.
 * Invariant: what is shown of an event is bounded, and so is the number of entries that are searched.
 */

import type { Introspection } from '../diagnostics/channels.ts';
import type { Entry } from '../journal/journal.ts';
import type { View } from './view-query.ts';

/** How many entries are searched first, enough for a second with few events; and how many at most. */
const FIRST_SEARCH = 64;
const MAX_SEARCH = 2000;
/** How many events a viewer gets at once. */
const MAX_EVENTS = 60;
const PREVIEW_BYTES = 600;
const MAX_CHANNELS = 8;

/** An event as the page shows it. */
export interface ShownEvent {
  readonly id: string;
  readonly event: string;
  readonly data: string;
  readonly size: number;
  readonly to: readonly string[] | undefined;
  readonly except: readonly string[] | undefined;
}

/** The newest events that pass the filters, newest first, and how many more there were. */
export interface EventBatch {
  readonly entries: readonly ShownEvent[];
  readonly skipped: number;
}

/** The events that one viewer has not got yet. */
export class EventFeed {
  readonly #introspection: Introspection;
  readonly #view: View;
  #lastId = '';

  constructor(introspection: Introspection, view: View) {
    this.#introspection = introspection;
    this.#view = view;
  }

  /** Returns the events since the last call; at the first call, the newest of all. */
  next(): EventBatch {
    const isFirst = this.#lastId === '';
    const entries = this.#newEntries();
    this.#lastId = entries[0]?.id ?? this.#lastId;
    const matching = entries.filter((entry) => this.#matches(entry));
    return {
      entries: matching.slice(0, MAX_EVENTS).map(shownEventOf),
      skipped: isFirst ? 0 : Math.max(0, matching.length - MAX_EVENTS),
    };
  }

  #newEntries(): readonly Entry[] {
    for (const count of [FIRST_SEARCH, MAX_SEARCH]) {
      const recent = this.#introspection.recent(this.#lastId === '' ? MAX_SEARCH : count);
      const index = recent.findIndex(({ id }) => id === this.#lastId);
      if (index !== -1) return recent.slice(0, index);
      if (recent.length < count || count === MAX_SEARCH) return recent;
    }
    return [];
  }

  #matches(entry: Entry): boolean {
    const { channel, name } = this.#view;
    if (channel !== undefined && !entry.to?.some(channel)) return false;
    return name === undefined || name(nameOf(textOf(entry)));
  }
}

function textOf({ body }: Entry): string {
  return Buffer.from(body.buffer, body.byteOffset, Math.min(body.byteLength, PREVIEW_BYTES))
    .toString()
    .replace(/\uFFFD+$/, ''); // the preview may end within a character
}

// Not `^` and `.`: a pattern takes U+2028 and U+2029 for line ends too, but in an event stream they are data.
function nameOf(text: string): string {
  return /(?<![^\n])event: ([^\n]*)/.exec(text.split('\ndata: ', 1)[0]!)?.[1] ?? 'message';
}

function shownEventOf(entry: Entry): ShownEvent {
  const text = textOf(entry);
  const data = [...text.matchAll(/(?<![^\n])data: ([^\n]*)/g)].map(([, line]) => line).join('\n');
  const size = entry.body.byteLength;
  return {
    id: entry.id,
    event: nameOf(text),
    data: size > PREVIEW_BYTES ? `${data}…` : data,
    size,
    to: firstOf(entry.to),
    except: firstOf(entry.except),
  };
}

function firstOf(channels: readonly string[] | undefined): readonly string[] | undefined {
  if (channels === undefined || channels.length <= MAX_CHANNELS) return channels;
  return [...channels.slice(0, MAX_CHANNELS), `and ${channels.length - MAX_CHANNELS} more`];
}
