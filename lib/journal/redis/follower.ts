/*
 * One follower: a connection of its own that waits for what comes after its cursor.
 * Knows how to dial, read and locate.
 * Invariant: a batch is told only if the cursor was in the log after the batch was read, so no batch has a hole before it.
 */
import type { Follower, ResetReason } from '../journal.ts';
import type { Source } from './clients.ts';
import { Backoff, dial, journalError, pause } from './command-connection.ts';
import type { Arg, Link } from './redis-connection.ts';
import { LogReader } from './log-reader.ts';
import { entriesRead, firstId, isStreamId } from './replies.ts';

const BLOCK = '2000'; // a connection's patience is 3 s longer
const PACE = 5; // ms between two reads: halves Redis' and our own CPU at 2,000 events/s for 3 ms of latency; a lone event waits for none
const RESTART_WINDOW = 1000;

export class Following {
  readonly #source: Source;
  readonly #log: string;
  readonly #follower: Follower;
  readonly #over = new AbortController();
  #cursor: string;
  #up: boolean | undefined;

  constructor(source: Source, log: string, after: string, follower: Follower) {
    this.#source = source;
    this.#log = log;
    this.#cursor = after;
    this.#follower = follower;
    void this.#run();
  }

  stop(): void {
    this.#over.abort(new Error('no longer followed'));
  }

  get #stopped(): boolean {
    return this.#over.signal.aborted;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#stopped) {
      let since = performance.now();
      let link: Link | undefined;
      try {
        link = await dial(this.#source, this.#log, this.#over.signal);
        since = performance.now();
        await this.#attend(link);
      } catch (error) {
        // Loading, failing over, frozen, forbidden: all of it is «down» and none of it says anything about the log.
        link?.destroy(error as Error);
        this.#tell(false, error as Error);
      }
      await pause(backoff.next(performance.now() - since), this.#over.signal);
    }
  }

  async #attend(link: Link): Promise<void> {
    const reader = new LogReader(this.#log, (commands) =>
      Promise.all(commands.map((command) => link.command(command))),
    );
    // The first read does not block: a cursor that is not good is to be known at once.
    for (let block = false; !this.#stopped; block = true) {
      if (!isStreamId(this.#cursor)) {
        await this.#relocate(reader);
        continue;
      }
      const [news, check] = await Promise.all([
        link.command(this.#read(reader.page(), block)),
        link.command(['XRANGE', this.#log, this.#cursor, this.#cursor]),
      ]);
      if (this.#stopped) return;
      if (firstId(check) !== this.#cursor) {
        await this.#relocate(reader);
        continue;
      }
      this.#tell(true);
      const entries = entriesRead(news);
      if (entries.length === 0) continue;
      reader.learn(entries);
      this.#cursor = entries.at(-1)!.id;
      this.#follower.entries(entries);
      await pause(PACE, this.#over.signal);
    }
  }

  #read(count: number, block: boolean): Arg[] {
    const waiting = block ? ['BLOCK', BLOCK] : [];
    return ['XREAD', 'COUNT', String(count), ...waiting, 'STREAMS', this.#log, this.#cursor]; // never «$»: it skips what came between two reads
  }

  /** The cursor's entry is not in the log: find out what that means. */
  async #relocate(reader: LogReader): Promise<void> {
    const { reason, start } = await reader.locate(this.#cursor);
    if (this.#stopped) return;
    if (reason === undefined) return this.#tell(true);
    // What is known is older than the cursor: if that was trimmed, so are they.
    const common = reason === 'unknown' ? await reader.newestOf(this.#follower.known(), start) : undefined;
    if (common !== undefined) {
      if (this.#stopped) return;
      this.#tell(true);
      this.#cursor = common;
      this.#follower.rewind(common);
    } else await this.#restart(reader, reason);
  }

  async #restart(reader: LogReader, reason: ResetReason): Promise<void> {
    const window = await reader.window(RESTART_WINDOW);
    if (this.#stopped) return;
    this.#tell(true);
    this.#cursor = window.entries.at(-1)?.id ?? window.floor;
    this.#follower.restart(window, reason);
  }

  #tell(up: boolean, error?: Error): void {
    if (this.#stopped || this.#up === up) return;
    this.#up = up;
    this.#follower.status?.(up, error && journalError('cannot be reached', error));
  }
}
