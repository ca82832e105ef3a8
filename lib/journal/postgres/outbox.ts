/*
 * Writes entries into the outbox, with one INSERT in the application's transaction and on its connection.
 * Invariant: the application's transaction contains no NOTIFY and nothing else that it could wait for.
 */
import { describe, SseError, SseTypeError } from '../../errors.ts';
import { MAX_TIMER_MS } from '../../validation/validate.ts';
import type { NewEntry } from '../journal.ts';
import { encodeEntry } from './entry-columns.ts';
import { type Names, outboxStatement } from './schema.ts';
import { hexText } from './sql-text.ts';

/** How the outbox reaches the rest of the journal. */
export interface OutboxHost {
  readonly maxEntryBytes: number;
  readonly waitMs: number;
  /** Settles when the journal is open. */
  opened(): Promise<unknown>;
  names(): Names;
  /** Whether committed rows wait in the outbox. */
  hasRows(): Promise<boolean>;
  /** Moves them into the log. */
  move(): void;
}

const FIRST_CHECK_MS = 4; // a COMMIT follows at once as a rule
const CHECK_MS = { shortest: 8, longest: 25 };
const CHECKED_FOR_MS = 400; // a transaction that lasts longer is found by polling

/** Writes into the outbox, and looks after the commit of what was written: one chain of checks for each process. */
export class Outbox {
  readonly #host: OutboxHost;
  /** The last statement of each transaction: pg 9 refuses a query while another one runs on its client. */
  readonly #last = new WeakMap<object, Promise<unknown>>();
  #timer: NodeJS.Timeout | undefined;
  #since = 0;
  #closed = false;

  constructor(host: OutboxHost) {
    this.#host = host;
  }

  /** @throws {SseTypeError} `ERR_SSE_OPTION` for what is no transaction. */
  within(transaction: unknown): { append(entry: NewEntry): Promise<void> } {
    const execute = statementRunner(transaction);
    return {
      append: async (newEntry) => {
        const entry = encodeEntry(newEntry, this.#host.maxEntryBytes);
        await this.#whenOpen();
        const { channels, excepted, key, body } = entry;
        const text = outboxStatement(this.#host.names(), {
          channels: hexText(channels),
          excepted: hexText(excepted),
          key,
          body,
        });
        await this.#inTurn(transaction as object, () => execute(text));
        this.#watch();
      },
    };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /** The application's transaction is open meanwhile, so the wait is limited. */
  async #whenOpen(): Promise<void> {
    const { waitMs } = this.#host;
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<never>((_, reject) => {
      const error = new SseError(
        'ERR_SSE_TIMEOUT',
        `within: the journal was not open within ${waitMs} ms. The entry was not stored.`,
      );
      timer = setTimeout(reject, Math.min(waitMs, MAX_TIMER_MS), error);
    });
    await Promise.race([this.#host.opened(), expired]).finally(() => clearTimeout(timer));
    if (this.#closed) throw new SseError('ERR_SSE_CLOSED', 'This journal is closed. Create a new one.');
  }

  async #inTurn(transaction: object, execute: () => Promise<unknown>): Promise<void> {
    const done = (this.#last.get(transaction) ?? Promise.resolve()).then(execute);
    this.#last.set(
      transaction,
      done.catch(() => {}),
    );
    try {
      await done;
    } catch (error) {
      if (error instanceof SseTypeError) throw error;
      const { message } = error as Error;
      throw new SseError('ERR_SSE_JOURNAL', `within: the transaction refused the event: ${message}`, { cause: error });
    }
  }

  #watch(): void {
    this.#since = performance.now();
    if (!this.#closed) this.#timer ??= setTimeout(() => void this.#check(), FIRST_CHECK_MS);
  }

  async #check(): Promise<void> {
    try {
      if (await this.#host.hasRows()) this.#host.move();
    } catch {
      // Not reachable: the row is found by polling, by this process or any other.
    }
    const elapsed = performance.now() - this.#since;
    this.#timer = undefined;
    if (this.#closed || elapsed > CHECKED_FOR_MS) return;
    const { shortest, longest } = CHECK_MS;
    const delay = shortest + ((longest - shortest) * Math.max(elapsed, 0)) / CHECKED_FOR_MS;
    this.#timer = setTimeout(() => void this.#check(), delay);
  }
}

/** How to run one statement in a transaction. What would run it outside of the transaction is refused: the event would survive a rollback. */
function statementRunner(transaction: unknown): (text: string) => Promise<unknown> {
  const given = transaction as Record<string, unknown> | null | undefined;
  if (typeof given === 'function') {
    const run = given as (text: string) => unknown;
    if (typeof given['unsafe'] === 'function')
      throw refused(given, 'Pass (text) => tx.unsafe(text), where tx is the transaction of sql.begin().');
    if (typeof given['raw'] === 'function') throw refused(given, 'Pass (text) => trx.raw(text).');
    return (text) => asPromise(run(text));
  }
  if (typeof given?.['$executeRawUnsafe'] === 'function') {
    throw refused(given, 'Pass (text) => tx.$executeRawUnsafe(text), where tx is that of prisma.$transaction().');
  }
  if (typeof given !== 'object' || given === null || typeof given['query'] !== 'function') {
    throw refused(
      given,
      'Pass a client on which BEGIN has run, or a function that runs one statement in the transaction.',
    );
  }
  if (typeof given['totalCount'] === 'number') {
    throw refused(
      given,
      'A pool runs each statement on any connection, and the event would survive a rollback. Pass the client of pool.connect().',
    );
  }
  if (typeof given['createQueryRunner'] === 'function') {
    throw refused(
      given,
      'A DataSource runs each statement on any connection. Pass the manager of dataSource.transaction().',
    );
  }
  if (typeof given['getQueryInterface'] === 'function') {
    throw refused(given, 'Pass (text) => sequelize.query(text, { transaction }).');
  }
  const client = given as { query(text: string): unknown };
  return (text) => asPromise(client.query(text));
}

async function asPromise(result: unknown): Promise<unknown> {
  if (typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function')
    return result as Promise<unknown>; // query builders return objects that run when they are awaited
  throw new SseTypeError(
    'ERR_SSE_OPTION',
    `within: running a statement must return a promise; received ${describe(result)}. Nothing may have been stored: roll back.`,
  );
}

function refused(value: unknown, cure: string): SseTypeError {
  return new SseTypeError(
    'ERR_SSE_OPTION',
    `within: the transaction must be a client or a function; received ${describe(value)}. ${cure}`,
  );
}
