/*
 * Publishing: entries go out numbered and in order, at most once each, although connections break.
 * Knows links, scripts and errors.
 * Invariant: what is unsettled is either in #queue, never sent since the last loss, or in #wire, in the order of its seq.
 */
import { randomBytes } from 'node:crypto';
import { SseError } from '../../errors.ts';
import type { NewEntry } from '../journal.ts';
import { fieldsOf } from './entry-fields.ts';
import { type Arg, type Link, LinkLost, passes } from './redis-connection.ts';
import { journalError, type LineUser } from './command-connection.ts';
import { IN_FLIGHT, LONGEST, PUBLISH, sha1 } from './scripts.ts';
import { text } from './replies.ts';

/** How a producer is bounded. */
export interface Limits {
  readonly maxLength: number;
  readonly wait: number;
  readonly maxPending: number;
  readonly maxPendingBytes: number;
  readonly maxEntryBytes: number;
  readonly keyAge: number;
}

interface Item {
  fields: readonly Arg[]; // none when it is over: it may be in the queue for longer
  readonly key: string | undefined;
  readonly size: number;
  readonly deadline: number;
  readonly resolve: (id: string) => void;
  readonly reject: (error: Error) => void;
  seq: number; // 0 until it is first sent
  sent: boolean; // it may be in the log
  over: boolean;
}

const SCRIPT = sha1(PUBLISH);
const PRODUCER_AGE = 3_600_000; // longer than anything is sent again
const LAST_WAIT = 1000; // ms for answers that are on their way when the journal is closed

export class Producer implements LineUser {
  readonly #log: string;
  readonly #beside: string;
  readonly #self: string;
  readonly #limits: Limits;
  readonly #maxlen: string;
  readonly #memory: string;
  readonly #trouble: () => Error | undefined;
  readonly #pending = new Set<Item>();
  readonly #wire = new Set<Item>();
  #again: Item[] = []; // refused on this connection, though nothing is wrong with them: they come again in order
  #queue: Item[] = [];
  #at = 0; // the queue's front
  #bytes = 0;
  #seq = 0;
  #previous = ''; // the seq sent before on this connection
  #halted = false;
  #link: Link | undefined;
  #timer: NodeJS.Timeout | undefined;
  #emptied: (() => void) | undefined;

  /** `beside`: what the other keys begin with; `trouble`: why there is no connection. */
  constructor(log: string, beside: string, limits: Limits, trouble: () => Error | undefined) {
    this.#log = log;
    this.#beside = beside;
    this.#self = `${beside}:p:${randomBytes(9).toString('base64url')}`;
    this.#limits = limits;
    this.#maxlen = Number.isFinite(limits.maxLength) ? String(limits.maxLength) : '';
    this.#memory = String(Math.ceil(Math.min(Math.max(PRODUCER_AGE, limits.wait * 2), LONGEST)));
    this.#trouble = trouble;
  }

  append(entry: NewEntry): Promise<string> {
    const { maxEntryBytes, maxPending, maxPendingBytes, wait } = this.#limits;
    const { key } = entry;
    const { fields, size } = fieldsOf(entry, maxEntryBytes);
    if (this.#pending.size >= maxPending || this.#bytes + size > maxPendingBytes) {
      throw new SseError(
        'ERR_SSE_QUEUE_FULL',
        `append: ${this.#pending.size} entries (${this.#bytes} bytes) wait for Redis already; nothing was stored${this.#because()}`,
        { cause: this.#trouble() },
      );
    }
    return new Promise((resolve, reject) => {
      const deadline = performance.now() + wait;
      const item: Item = { fields, key, size, deadline, resolve, reject, seq: 0, sent: false, over: false };
      this.#pending.add(item);
      this.#bytes += size;
      this.#queue.push(item);
      this.#timer ??= this.#timerIn(wait);
      this.#pump();
    });
  }

  online(link: Link): void {
    this.#link = link;
    this.#resume();
  }

  offline(): void {
    this.#link = undefined;
    this.#again.push(...this.#wire);
    this.#wire.clear();
  }

  /** What has not been sent is refused at once. What has, may be in the log already: its answer is waited for, a second at most. */
  async close(error: SseError): Promise<void> {
    for (const item of this.#pending) if (!item.sent) this.#settle(item, error);
    if (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LAST_WAIT);
        this.#emptied = () => resolve(clearTimeout(timer));
      });
    }
    clearTimeout(this.#timer);
    for (const item of this.#pending) this.#settle(item, item.sent ? this.#late('before it was closed') : error);
  }

  /** Everything unsettled goes out again in order, before anything new. */
  #resume(): void {
    if (this.#again.length > 0) {
      this.#queue = [...this.#again, ...this.#queue.slice(this.#at)];
      this.#at = 0;
      this.#again = [];
    }
    this.#previous = '';
    this.#halted = false;
    this.#pump();
  }

  #pump(): void {
    while (this.#at < this.#queue.length) {
      const item = this.#queue[this.#at]!;
      // What is over is passed in any case: while there is no connection, nobody else lets go of it.
      if (!item.over && (!this.#link || this.#halted || this.#wire.size >= IN_FLIGHT)) break;
      this.#at++;
      if (!item.over) this.#send(this.#link!, item);
    }
    if (this.#at > IN_FLIGHT && this.#at * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#at);
      this.#at = 0;
    }
  }

  #send(link: Link, item: Item): void {
    item.seq ||= ++this.#seq;
    item.sent = true;
    const seq = String(item.seq);
    const keys =
      item.key === undefined ? ['2', this.#log, this.#self] : ['3', this.#log, this.#self, this.#named(item.key)];
    const place = String(item.seq % IN_FLIGHT);
    this.#wire.add(item);
    link
      .command([
        'EVALSHA',
        SCRIPT,
        ...keys,
        seq,
        this.#previous,
        place,
        this.#memory,
        String(this.#limits.keyAge),
        this.#maxlen,
        ...item.fields,
      ])
      .then(
        (reply) => this.#answered(item, reply),
        (error: Error) => this.#refused(link, item, error),
      );
    this.#previous = seq;
  }

  #named(key: string): string {
    return `${this.#beside}:k:${key}`;
  }

  #answered(item: Item, reply: unknown): void {
    this.#wire.delete(item);
    if (reply === null || reply === undefined) this.#comesAgain(item);
    else this.#settle(item, undefined, text(reply));
    this.#next();
  }

  #refused(link: Link, item: Item, error: Error): void {
    if (error instanceof LinkLost) return; // offline() has put it among those that come again
    this.#wire.delete(item);
    if (passes(error)) {
      this.#comesAgain(item);
      link.destroy(error); // a new connection, after a pause, may lead to a node that takes it
      return;
    }
    this.#settle(item, journalError('refused', error));
    this.#halted = true; // what was sent behind it says «gap» now, and comes again
    this.#next();
  }

  /** It was not carried out: known, so it counts as never sent. */
  #comesAgain(item: Item): void {
    item.sent = false;
    this.#again.push(item);
    this.#halted = true;
  }

  #next(): void {
    if (!this.#halted) this.#pump();
    else if (this.#wire.size === 0 && this.#link) this.#resume();
  }

  #settle(item: Item, error: Error | undefined, id = ''): void {
    if (item.over) return; // it was told «outcome unknown» already
    item.over = true;
    item.fields = [];
    this.#pending.delete(item);
    this.#bytes -= item.size;
    if (error) item.reject(error);
    else item.resolve(id);
    if (this.#pending.size === 0) this.#emptied?.();
  }

  #timerIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#expire(), Math.min(Math.max(ms, 1), 2 ** 31 - 1)).unref();
  }

  /** One timer for all: they wait equally long, so they stand in the order of their deadlines. */
  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const item of this.#pending) {
      if (item.deadline > now) {
        this.#timer = this.#timerIn(item.deadline - now);
        break;
      }
      this.#settle(item, this.#late(`within ${this.#limits.wait} ms`, item.sent));
    }
    this.#pump();
  }

  #late(when: string, sent = true): SseError {
    const outcome = sent
      ? 'the outcome is unknown: it may be in the log. Append it again with a key to be sure'
      : 'nothing was stored';
    const message = `append: no answer from Redis ${when}; ${outcome}${this.#because()}`;
    return new SseError('ERR_SSE_TIMEOUT', message, { cause: this.#trouble() });
  }

  #because(): string {
    const trouble = this.#trouble();
    return trouble ? ` (${trouble.message})` : '';
  }
}
