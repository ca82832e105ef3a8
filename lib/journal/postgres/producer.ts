/*
 * Appends entries in groups, numbered and in order, at most once each, although connections are lost.
 * Invariant: at most one group is under way. It is sent again with its number until the outcome is known or its time is over,
 * and the server stores a number once.
 */
import { randomBytes } from 'node:crypto';
import type { NewEntry } from '../journal.ts';
import { type PendingAppend, PendingAppends, type PendingLimits } from '../pending-appends.ts';
import { type EncodedEntry, encodeEntry } from './entry-columns.ts';
import { ConnectionLost, isTransient, type PostgresConnection } from './postgres-connection.ts';
import type { Names } from './schema.ts';
import { journalError } from './session.ts';
import { finite, hexBytes, quoteText } from './sql-text.ts';

/** How a producer is limited. */
export interface ProducerLimits extends PendingLimits {
  readonly maxLength: number;
  readonly maxAge: number;
  readonly maxEntryBytes: number;
  readonly keyAge: number;
}

type Append = PendingAppend<EncodedEntry>;

interface Group {
  readonly seq: number;
  readonly items: readonly Append[];
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

export class Producer {
  readonly #id = randomBytes(9).toString('base64url');
  readonly #limits: ProducerLimits;
  readonly #host: ProducerHost;
  readonly #pending: PendingAppends<EncodedEntry>;
  #group: Group | undefined;
  #connection: PostgresConnection | undefined;
  #isBusy = false;
  #movePending = false;
  #notifyPending = false;
  #seq = 0;
  /**
   * Entries that are appended in the same tick share a group. (Made once: an error refers to the functions of its stack, and a
   * function that `append` makes may refer to the entry.)
   */
  readonly #pumpLater = (): void => void this.#pump();

  constructor(limits: ProducerLimits, host: ProducerHost) {
    this.#limits = limits;
    this.#host = host;
    this.#pending = new PendingAppends('Postgres', limits, () => host.failure());
  }

  append(newEntry: NewEntry): Promise<string> {
    const entry = encodeEntry(newEntry, this.#limits.maxEntryBytes);
    const appended = this.#pending.add(entry, entry.size);
    this.#host.connect();
    queueMicrotask(this.#pumpLater);
    return appended;
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

  /** Closes as {@link PendingAppends.close}. */
  async close(): Promise<void> {
    await this.#pending.close('before the journal was closed');
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
    const items: Append[] = [];
    let bytes = 0;
    while (items.length < GROUP_ENTRIES) {
      const item = this.#pending.take(items.length === 0 ? Infinity : GROUP_BYTES - bytes);
      if (!item) break;
      bytes += item.size;
      items.push(item);
    }
    if (items.length === 0) return undefined;
    const entries = items.map(({ entry }) => entry!);
    const keyed = entries.some(({ key }) => key !== undefined);
    return { seq: ++this.#seq, items, keyed, text: argumentsOf(entries), ambiguous: false };
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
        this.#pending.resolve(item, `${epoch}-${group.keyed ? list[i] : `${Number(first) + i}-${tag}`}`);
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
      for (const item of group.items) this.#pending.reject(item, journalError('refused', error));
      return;
    }
    // The server rolled it back: it counts as never sent, and what has expired meanwhile is left out of the next group.
    this.#group = undefined;
    for (const item of group.items) item.maybeStored = false;
    this.#pending.requeue(group.items);
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
}

/**
 * The entries of a group as SQL: what each is, and all bodies in one. Channels are JSON within a JSON string: Postgres resolves the
 * escapes of an object's strings, and refuses that of NUL.
 */
function argumentsOf(entries: readonly EncodedEntry[]): string {
  let offset = 1; // SQL counts from 1
  const described = entries.map(({ channels, excepted, key, body }) => {
    const parts = [`"o":${offset}`, `"s":${body.byteLength}`];
    if (channels !== undefined) parts.push(`"t":${JSON.stringify(channels)}`);
    if (excepted !== undefined) parts.push(`"x":${JSON.stringify(excepted)}`);
    if (key !== undefined) parts.push(`"k":"${Buffer.from(key).toString('hex')}"`);
    offset += body.byteLength;
    return `{${parts.join(',')}}`;
  });
  return `${quoteText(`[${described.join(',')}]`)}, ${hexBytes(Buffer.concat(entries.map(({ body }) => body)))}`;
}
