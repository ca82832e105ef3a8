/*
 * Appends entries in groups, numbered and in order, at most once each, although connections are lost.
 * Invariant: at most one group is under way. It is sent again with its number until the outcome is known or its time is over,
 * and the server stores a number once.
 */
import { randomBytes } from 'node:crypto';
import { SseError } from '../../errors.ts';
import { MAX_TIMER_MS } from '../../validation/validate.ts';
import { Deque } from '../deque.ts';
import type { NewEntry } from '../journal.ts';
import { type EncodedEntry, encodeEntry } from './entry-columns.ts';
import { ConnectionLost, isTransient, type PostgresConnection } from './postgres-connection.ts';
import type { Names } from './schema.ts';
import { journalError } from './session.ts';
import { finite, hexBytes, quoteText } from './sql-text.ts';

/** How a producer is limited. */
export interface ProducerLimits {
  readonly maxLength: number;
  readonly maxAge: number;
  readonly wait: number;
  readonly maxPending: number;
  readonly maxPendingBytes: number;
  readonly maxEntryBytes: number;
  readonly keyAge: number;
}

interface PendingEntry {
  readonly entry: EncodedEntry;
  readonly deadline: number;
  readonly resolve: (id: string) => void;
  readonly reject: (error: Error) => void;
  /** It may be in the log. */
  maybeStored: boolean;
  settled: boolean;
}

interface Group {
  readonly seq: number;
  readonly items: readonly PendingEntry[];
  readonly keyed: boolean;
  readonly text: string;
  /** An earlier attempt has no known outcome: this group is sent again as it is, and is not taken apart. */
  ambiguous: boolean;
}

/** How the producer reaches the rest of the journal. */
export interface ProducerHost {
  /** Asks for a writing connection; {@link Producer.onConnected} is called with it. */
  connect(): void;
  /** Why there is no connection. */
  failure(): Error | undefined;
  names(): Names;
  /** What a NOTIFY of this process contains; undefined if none is sent. */
  notification(): string | undefined;
  /** Entries have been stored. */
  onStored(): void;
  /** A NOTIFY has been sent. */
  onNotified(): void;
}

const GROUP_ENTRIES = 1000; // a group of small entries takes some 20 ms
const GROUP_BYTES = 4 * 1024 * 1024;
/** Shorter than a connection waits for an answer: the server gives up first, and then the outcome is known. */
const STATEMENT_TIMEOUT_MS = 4000;
const CLOSE_TIMEOUT_MS = 1000; // for answers that are on their way when the journal is closed

export class Producer {
  readonly #id = randomBytes(9).toString('base64url');
  readonly #limits: ProducerLimits;
  readonly #host: ProducerHost;
  readonly #pending = new Set<PendingEntry>();
  readonly #queue = new Deque<PendingEntry>();
  #group: Group | undefined;
  #connection: PostgresConnection | undefined;
  #isBusy = false;
  #movePending = false;
  #notifyPending = false;
  #bytes = 0;
  #seq = 0;
  #timer: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | undefined;
  /**
   * Entries that are appended in the same tick share a group. (Made once: an error refers to the functions of its stack, and a
   * function that `append` makes refers to the entry.)
   */
  readonly #pumpLater = (): void => void this.#pump();

  constructor(limits: ProducerLimits, host: ProducerHost) {
    this.#limits = limits;
    this.#host = host;
  }

  append(newEntry: NewEntry): Promise<string> {
    const { maxEntryBytes, maxPending, maxPendingBytes, wait } = this.#limits;
    const entry = encodeEntry(newEntry, maxEntryBytes);
    if (this.#pending.size >= maxPending || this.#bytes + entry.size > maxPendingBytes) {
      throw new SseError(
        'ERR_SSE_QUEUE_FULL',
        `append: pending entries must be at most ${maxPending} (maxPending) and ${maxPendingBytes} bytes (maxPendingBytes); ` +
          `${this.#pending.size} entries of ${this.#bytes} bytes already wait for Postgres${this.#reasonText()}. ` +
          'The entry was not stored. Append less often, or await earlier appends first.',
        { cause: this.#host.failure() },
      );
    }
    return new Promise((resolve, reject) => {
      const item: PendingEntry = {
        entry,
        deadline: performance.now() + wait,
        resolve,
        reject,
        maybeStored: false,
        settled: false,
      };
      this.#pending.add(item);
      this.#bytes += entry.size;
      this.#queue.push(item);
      this.#timer ??= this.#startTimer(wait);
      this.#host.connect();
      queueMicrotask(this.#pumpLater);
    });
  }

  /** Moves what the outbox contains into the log: with the next group, or on its own. */
  move(): void {
    this.#movePending = true;
    this.#host.connect();
    void this.#pump();
  }

  /** Sends a NOTIFY. */
  notify(): void {
    this.#notifyPending = true;
    void this.#pump();
  }

  onConnected(connection: PostgresConnection): void {
    this.#connection = connection;
    void this.#pump();
  }

  onDisconnected(): void {
    this.#connection = undefined;
  }

  /** What has not been sent is refused at once. What has, may be in the log: its answer is awaited, for a second at most. */
  async close(error: SseError): Promise<void> {
    for (const item of this.#pending) if (!item.maybeStored) this.#settle(item, error);
    if (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
        this.#onEmpty = () => resolve(clearTimeout(timer));
      });
    }
    clearTimeout(this.#timer);
    for (const item of this.#pending)
      this.#settle(item, item.maybeStored ? this.#timeoutError('before it was closed') : error);
    this.#movePending = false;
  }

  async #pump(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    /* oxlint-disable no-await-in-loop -- one group after the other */
    for (let connection = this.#connection; connection !== undefined; connection = this.#connection) {
      const work = this.#nextWork();
      if (work === undefined) break;
      try {
        await work(connection);
      } catch (error) {
        // A new connection, after a pause, may lead to a server that accepts it.
        connection.destroy(error as Error);
      }
    }
    /* oxlint-enable no-await-in-loop */
    this.#isBusy = false;
  }

  #nextWork(): ((connection: PostgresConnection) => Promise<void>) | undefined {
    if (this.#notifyPending) return (connection) => this.#notify(connection);
    this.#group ??= this.#nextGroup();
    const group = this.#group;
    if (group) return (connection) => this.#send(connection, group);
    return this.#movePending ? (connection) => this.#send(connection, undefined) : undefined;
  }

  #nextGroup(): Group | undefined {
    const items: PendingEntry[] = [];
    let bytes = 0;
    const now = performance.now();
    while (this.#queue.length > 0 && items.length < GROUP_ENTRIES) {
      const item = this.#queue.at(0)!;
      // After a pause of this process, answers arrive before entries expire. What has expired by then must not be sent.
      if (item.deadline <= now) this.#timeOut(item);
      if (!item.settled) {
        if (items.length > 0 && bytes + item.entry.size > GROUP_BYTES) break;
        bytes += item.entry.size;
        items.push(item);
      }
      this.#queue.shift();
    }
    if (items.length === 0) return undefined;
    const keyed = items.some(({ entry }) => entry.key !== undefined);
    return { seq: ++this.#seq, items, keyed, text: argumentsOf(items), ambiguous: false };
  }

  /** One message is one implicit transaction: a process that stops holds no lock, and an error leaves no transaction open. */
  async #send(connection: PostgresConnection, group: Group | undefined): Promise<void> {
    const { append } = this.#host.names();
    const { maxLength, maxAge, keyAge } = this.#limits;
    const limits = `${finite(maxLength)}, ${finite(maxAge)}, ${finite(keyAge)}`;
    const call = group ? `'${this.#id}', ${group.seq}, ${group.text}, ${group.keyed}` : "'', 0, NULL, NULL, false";
    for (const item of group?.items ?? []) item.maybeStored = true;
    this.#movePending = false;
    let answer: string;
    try {
      const rows = await connection.query(
        'SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ' +
          `SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}; SET LOCAL synchronous_commit = on; ` +
          `SELECT ${append}(${call}, ${limits})`,
      );
      answer = rows[0]![0]!;
    } catch (error) {
      if (group) this.#onFailure(group, error as Error);
      else this.#movePending = isTransient(error);
      throw error;
    }
    const [epoch, stored, more, ids = ''] = answer.split('|');
    if (stored !== '0') this.#notifyPending = this.#host.notification() !== undefined;
    if (more === '1') {
      this.#movePending = true; // the outbox has more than one transaction moves, and the group comes behind all of it
    } else if (group) {
      this.#group = undefined;
      const list = ids.split(',');
      const [first, tag] = ids.split('-');
      for (const [i, item] of group.items.entries()) {
        this.#settle(item, undefined, `${epoch}-${group.keyed ? list[i] : `${Number(first) + i}-${tag}`}`);
      }
    }
    if (stored !== '0') this.#host.onStored();
  }

  #onFailure(group: Group, error: Error): void {
    if (error instanceof ConnectionLost) group.ambiguous = true;
    const isAwaited = group.items.some(({ settled }) => !settled);
    if (group.ambiguous && isTransient(error)) {
      if (!isAwaited) this.#group = undefined;
      return;
    }
    if (!isTransient(error)) {
      this.#group = undefined;
      for (const item of group.items) this.#settle(item, journalError('refused', error));
      return;
    }
    // The server rolled it back: it counts as never sent, and what has expired meanwhile is left out of the next group.
    this.#group = undefined;
    for (const item of group.items) item.maybeStored = false;
    this.#queue.prepend(group.items);
  }

  /**
   * In a transaction of its own that waits for no disk: the server holds one lock for all NOTIFY from here to the end of the commit
   * (2,100 commits a second with one NOTIFY each, 190 if each waits for the disk).
   */
  async #notify(connection: PostgresConnection): Promise<void> {
    this.#notifyPending = false;
    const payload = this.#host.notification();
    if (payload === undefined) return;
    const { channel } = this.#host.names();
    await connection.query(
      `SET LOCAL synchronous_commit = off; SELECT pg_notify(${quoteText(channel)}, ${quoteText(payload)})`,
    );
    this.#host.onNotified();
  }

  #settle(item: PendingEntry, error: Error | undefined, id = ''): void {
    if (item.settled) return; // it was rejected with an unknown outcome
    item.settled = true;
    this.#pending.delete(item);
    this.#bytes -= item.entry.size;
    if (error) item.reject(error);
    else item.resolve(id);
    if (this.#pending.size === 0) this.#onEmpty?.();
  }

  #startTimer(ms: number): NodeJS.Timeout {
    // After a pause of this process, answers may wait in the socket: they are read before entries expire.
    return setTimeout(() => setImmediate(() => this.#expire()), Math.min(Math.max(ms, 1), MAX_TIMER_MS)).unref();
  }

  /** One timer for all: items wait equally long, so they are in the order of their deadlines. */
  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const item of this.#pending) {
      if (item.deadline > now) {
        this.#timer = this.#startTimer(item.deadline - now);
        break;
      }
      this.#timeOut(item);
    }
    // While there is no connection nothing else takes them out of the queue, and they hold their bodies.
    while (this.#queue.at(0)?.settled) this.#queue.shift();
  }

  #timeOut(item: PendingEntry): void {
    if (!item.settled) this.#settle(item, this.#timeoutError(`within ${this.#limits.wait} ms`, item.maybeStored));
  }

  #timeoutError(when: string, maybeStored = true): SseError {
    const outcome = maybeStored
      ? 'The outcome is unknown, the entry may be in the log. With a key, it is safe to append it again.'
      : 'The entry was not stored. Append it again.';
    const message = `append: no reply from Postgres ${when}${this.#reasonText()}. ${outcome}`;
    return new SseError('ERR_SSE_TIMEOUT', message, { cause: this.#host.failure() });
  }

  #reasonText(): string {
    const reason = this.#host.failure();
    return reason ? ` (${reason.message})` : '';
  }
}

/**
 * The entries of a group as SQL: what each is, and all bodies in one. Channels are JSON within a JSON string: Postgres resolves the
 * escapes of an object's strings, and refuses that of NUL.
 */
function argumentsOf(items: readonly PendingEntry[]): string {
  let offset = 1; // SQL counts from 1
  const described = items.map(({ entry: { channels, excepted, key, body } }) => {
    const parts = [`"o":${offset}`, `"s":${body.byteLength}`];
    if (channels !== undefined) parts.push(`"t":${JSON.stringify(channels)}`);
    if (excepted !== undefined) parts.push(`"x":${JSON.stringify(excepted)}`);
    if (key !== undefined) parts.push(`"k":"${Buffer.from(key).toString('hex')}"`);
    offset += body.byteLength;
    return `{${parts.join(',')}}`;
  });
  return `${quoteText(`[${described.join(',')}]`)}, ${hexBytes(Buffer.concat(items.map(({ entry }) => entry.body)))}`;
}
