/*
 * The last events of the log, for somebody to read.
 * Knows the insight, entries and views; of the wire only what `frame.ts` writes: `event: ` and `data: ` lines.
 * Invariant: what is shown of an event is bounded, and so is how far back it is looked for.
 */

import type { Entry } from '../journal/journal.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { View } from './view-query.ts';

const NEAR = 64; // entries that are looked at in a quiet second
const FAR = 2000; // and at most
const SHOWN = 60;
const PREVIEW = 600; // bytes of a body

export interface Shown {
  readonly id: string;
  readonly event: string;
  readonly data: string;
  readonly size: number;
  readonly to: readonly string[] | undefined;
  readonly except: readonly string[] | undefined;
}

/** The newest that pass, newest first, and how many more there were. */
export interface Fresh {
  readonly entries: readonly Shown[];
  readonly skipped: number;
}

/** One viewer's place in the log. */
export class Reading {
  readonly #insight: Introspection;
  readonly #view: View;
  #last = '';

  constructor(insight: Introspection, view: View) {
    this.#insight = insight;
    this.#view = view;
  }

  /** What has come since the last time; the first time: the newest of all. */
  next(): Fresh {
    const first = this.#last === '';
    const fresh = this.#since();
    this.#last = fresh[0]?.id ?? this.#last;
    const passed = fresh.filter((entry) => this.#passes(entry));
    return { entries: passed.slice(0, SHOWN).map(shownOf), skipped: first ? 0 : Math.max(0, passed.length - SHOWN) };
  }

  #since(): readonly Entry[] {
    for (const far of [NEAR, FAR]) {
      const recent = this.#insight.recent(this.#last === '' ? FAR : far);
      const at = recent.findIndex(({ id }) => id === this.#last);
      if (at !== -1) return recent.slice(0, at);
      if (recent.length < far || far === FAR) return recent;
    }
    return [];
  }

  #passes(entry: Entry): boolean {
    const { channel, name } = this.#view;
    if (channel !== undefined && !entry.to?.some(channel)) return false;
    return name === undefined || name(nameOf(textOf(entry)));
  }
}

function textOf({ body }: Entry): string {
  return Buffer.from(body.buffer, body.byteOffset, Math.min(body.byteLength, PREVIEW))
    .toString()
    .replace(/\uFFFD+$/, ''); // cut within a character
}

// Not `^` and `.`: to a pattern U+2028 and U+2029 are line ends too, and to the wire they are data.
function nameOf(text: string): string {
  return /(?<![^\n])event: ([^\n]*)/.exec(text.split('\ndata: ', 1)[0]!)?.[1] ?? 'message';
}

function shownOf(entry: Entry): Shown {
  const text = textOf(entry);
  const data = [...text.matchAll(/(?<![^\n])data: ([^\n]*)/g)].map(([, line]) => line).join('\n');
  const size = entry.body.byteLength;
  return {
    id: entry.id,
    event: nameOf(text),
    data: size > PREVIEW ? `${data}…` : data,
    size,
    to: few(entry.to),
    except: few(entry.except),
  };
}

function few(channels: readonly string[] | undefined): readonly string[] | undefined {
  return channels && channels.length > 8 ? [...channels.slice(0, 8), `and ${channels.length - 8} more`] : channels;
}
