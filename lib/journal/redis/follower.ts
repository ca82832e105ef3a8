/*
 * One follower of the stream, with a connection of its own that waits for entries after its cursor.
 * Invariant: a batch is delivered only if the cursor was in the log after the batch was read. So no batch follows a gap.
 */
import type { Follower, ResetReason } from '../journal.ts';
import type { ClientAdapter } from './clients.ts';
import { Backoff, connectToKey, journalError, pause } from './command-connection.ts';
import type { Arg, RedisConnection } from './redis-connection.ts';
import { LogReader } from './log-reader.ts';
import { compareStreamIds, firstId, isStreamId, parseXread } from './replies.ts';

const BLOCK_MS = '2000'; // the reply timeout of a connection is 3 s longer
// The pause between two reads. At 2,000 events/s it halves the CPU time of Redis and of this process, for 3 ms of latency. A single
// event is not delayed.
const READ_PAUSE_MS = 5;
const RESTART_WINDOW_SIZE = 1000;

/** Follows the stream until it is stopped. It reconnects after a loss and reports it to the follower. */
export class StreamFollower {
  readonly #adapter: ClientAdapter;
  readonly #log: string;
  readonly #follower: Follower;
  readonly #abort = new AbortController();
  #cursor: string;
  #up: boolean | undefined;

  constructor(adapter: ClientAdapter, log: string, after: string, follower: Follower) {
    this.#adapter = adapter;
    this.#log = log;
    this.#cursor = after;
    this.#follower = follower;
    void this.#run();
  }

  stop(): void {
    this.#abort.abort(new Error('unfollowed'));
  }

  /** The log begins with the entry `first`: reports the newest of the follower's entries that precede it. */
  reportTrimmed(first: string): void {
    if (this.#stopped || this.#follower.trim === undefined) return;
    const ids = [...this.#follower.known()].filter(isStreamId); // newest first
    let low = 0;
    let high = ids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareStreamIds(ids[middle]!, first) < 0) high = middle;
      else low = middle + 1;
    }
    if (low < ids.length) this.#follower.trim(ids[low]!);
  }

  get #stopped(): boolean {
    return this.#abort.signal.aborted;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#stopped) {
      let since = performance.now();
      let connection: RedisConnection | undefined;
      try {
        connection = await connectToKey(this.#adapter, this.#log, this.#abort.signal);
        since = performance.now();
        await this.#follow(connection);
      } catch (error) {
        // Loading, failing over, frozen, forbidden: all of them mean «down». None of them is information about the log.
        connection?.destroy(error as Error);
        this.#reportStatus(false, error as Error);
      }
      await pause(backoff.next(performance.now() - since), this.#abort.signal);
    }
  }

  async #follow(connection: RedisConnection): Promise<void> {
    const reader = new LogReader(this.#log, (commands) =>
      Promise.all(commands.map((command) => connection.command(command))),
    );
    // The first read does not block: an invalid cursor must be detected at once.
    for (let block = false; !this.#stopped; block = true) {
      if (!isStreamId(this.#cursor)) {
        await this.#relocate(reader);
        continue;
      }
      const [news, check] = await Promise.all([
        connection.command(this.#readCommand(reader.pageSize(), block)),
        connection.command(['XRANGE', this.#log, this.#cursor, this.#cursor]),
      ]);
      if (this.#stopped) return;
      if (firstId(check) !== this.#cursor) {
        await this.#relocate(reader);
        continue;
      }
      this.#reportStatus(true);
      const entries = parseXread(news);
      if (entries.length === 0) continue;
      reader.recordSizes(entries);
      this.#cursor = entries.at(-1)!.id;
      this.#follower.entries(entries);
      await pause(READ_PAUSE_MS, this.#abort.signal);
    }
  }

  #readCommand(count: number, block: boolean): Arg[] {
    const blocking = block ? ['BLOCK', BLOCK_MS] : [];
    // Never «$»: it skips entries between two reads.
    return ['XREAD', 'COUNT', String(count), ...blocking, 'STREAMS', this.#log, this.#cursor];
  }

  /** Finds out why the cursor's entry is not in the log, and continues from the right position. */
  async #relocate(reader: LogReader): Promise<void> {
    const { reason, start } = await reader.lookUp(this.#cursor);
    if (this.#stopped) return;
    if (reason === undefined) return this.#reportStatus(true);
    // The ids that the follower has are older than the cursor: if the cursor was trimmed, so were they.
    const common = reason === 'unknown' ? await reader.newestPresent(this.#follower.known(), start) : undefined;
    if (common !== undefined) {
      if (this.#stopped) return;
      this.#reportStatus(true);
      this.#cursor = common;
      this.#follower.rewind(common);
    } else await this.#restart(reader, reason);
  }

  async #restart(reader: LogReader, reason: ResetReason): Promise<void> {
    const window = await reader.window(RESTART_WINDOW_SIZE);
    if (this.#stopped) return;
    this.#reportStatus(true);
    this.#cursor = window.entries.at(-1)?.id ?? window.floor;
    this.#follower.restart(window, reason);
  }

  #reportStatus(up: boolean, error?: Error): void {
    if (this.#stopped || this.#up === up) return;
    this.#up = up;
    this.#follower.status?.(up, error && journalError('cannot be reached', error));
  }
}
