/*
 * Follows the log, with one loop for each follower, on the reading connection of the journal.
 * Invariant: an entry is delivered only if the entry before it was in the log in the same snapshot.
 * Invariant: a failure of the connection is reported as down, and never as a reset.
 */
import type { SseError } from '../../errors.ts';
import type { Follower, ResetReason } from '../journal.ts';
import { isLogId } from './log-id.ts';
import type { LogReader } from './log-reader.ts';
import type { PostgresConnection } from './postgres-connection.ts';
import { journalError, pause, type Session } from './session.ts';

/** Between two reads while entries come: a lone entry is read at once, and a stream of them costs 50 reads a second. */
const READ_INTERVAL_MS = 20;
const RESTART_WINDOW = 1000;

export class LogFollower {
  readonly #session: Session;
  readonly #reader: LogReader;
  readonly #follower: Follower;
  readonly #pollMs: number;
  readonly #onOutbox: () => void;
  readonly #abort = new AbortController();
  #cursor: string;
  #trimmed = ''; // the last id that `trim` reported
  #isUp: boolean | undefined;
  #hasNews = true;
  #wakeUp: (() => void) | undefined;

  /** `onOutbox`: called if committed rows of the outbox wait to be moved into the log. */
  constructor(
    session: Session,
    reader: LogReader,
    { after, follower, pollMs, onOutbox }: { after: string; follower: Follower; pollMs: number; onOutbox: () => void },
  ) {
    this.#session = session;
    this.#reader = reader;
    this.#cursor = after;
    this.#follower = follower;
    this.#pollMs = pollMs;
    this.#onOutbox = onOutbox;
    void this.#run();
  }

  /** The log may have grown. */
  wake(): void {
    this.#hasNews = true;
    this.#wakeUp?.();
  }

  stop(): void {
    this.#abort.abort(new Error('no longer followed'));
    this.#wakeUp?.();
  }

  get #stopped(): boolean {
    return this.#abort.signal.aborted;
  }

  async #run(): Promise<void> {
    /* oxlint-disable no-await-in-loop -- one connection after the other */
    while (!this.#stopped) {
      let connection: PostgresConnection | undefined;
      try {
        connection = await this.#session.next();
        await this.#followOn(connection);
      } catch (error) {
        // Starting, failing over, frozen, forbidden, in the middle of a restore: none of it is evidence about the log.
        this.#setUp(false, error as Error);
        connection?.destroy(error as Error);
        if (this.#session.isClosed) return;
      }
    }
    /* oxlint-enable no-await-in-loop */
  }

  async #followOn(connection: PostgresConnection): Promise<void> {
    /* oxlint-disable no-await-in-loop -- each page begins where the one before it ends */
    while (!this.#stopped) {
      this.#hasNews = false;
      if (!isLogId(this.#cursor)) {
        await this.#restart(connection, 'unknown');
        continue;
      }
      const size = this.#reader.pageSize();
      const { reason, entries, hasOutbox, first, floor } = await this.#reader.page(
        connection,
        this.#cursor,
        size,
        this.#onUnsendable,
      );
      if (this.#stopped) return;
      if (hasOutbox) this.#onOutbox();
      if (reason !== undefined) {
        await this.#relocate(connection, reason);
        continue;
      }
      this.#setUp(true);
      if (entries.length > 0) {
        this.#cursor = entries.at(-1)!.id;
        this.#follower.entries(entries);
      }
      if (floor !== this.#trimmed && first > 1) {
        this.#trimmed = floor; // the limits apply to what the follower holds in memory, too
        this.#follower.trim?.(floor);
      }
      if (entries.length > 0) {
        if (entries.length === size) continue;
        await pause(READ_INTERVAL_MS, this.#abort.signal);
      }
      await this.#news();
    }
    /* oxlint-enable no-await-in-loop */
  }

  /** Settles when something may have happened since the last read began, or after `poll`. */
  async #news(): Promise<void> {
    if (this.#hasNews || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, this.#pollMs).unref();
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wakeUp = undefined;
  }

  /** The cursor's entry is not in the log. */
  async #relocate(connection: PostgresConnection, reason: 'lost' | 'unknown'): Promise<void> {
    // The ids of the follower are older than the cursor: if the cursor was trimmed, they were too.
    const common = reason === 'unknown' ? await this.#reader.newestOf(connection, this.#follower.known()) : undefined;
    if (this.#stopped) return;
    if (common === undefined) return this.#restart(connection, reason);
    this.#setUp(true);
    this.#cursor = common;
    this.#follower.rewind(common);
  }

  async #restart(connection: PostgresConnection, reason: ResetReason): Promise<void> {
    const window = await this.#reader.window(connection, RESTART_WINDOW);
    if (this.#stopped) return;
    this.#setUp(true);
    this.#cursor = window.entries.at(-1)?.id ?? window.floor;
    this.#follower.restart(window, reason);
  }

  /** Reports an event that the function of an older version has accepted. The journal is up, because it has read that event. */
  readonly #onUnsendable = (error: SseError): void => {
    if (!this.#stopped) this.#follower.status?.(true, error);
  };

  #setUp(up: boolean, error?: Error): void {
    if (this.#stopped || this.#isUp === up) return;
    this.#isUp = up;
    this.#follower.status?.(up, error && journalError('cannot be reached', error));
  }
}
