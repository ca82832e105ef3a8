/*
 * All readers of one router of runs: what their logs share, and the logs of the runs that have readers in this process.
 * Invariant: a run with readers has one log here, and follows its feed once. A client that is ahead of it has a log of its own.
 * Invariant: a run without readers costs nothing here. The limits, the heartbeats and the timer are those of all readers together.
 */

import { randomBytes } from 'node:crypto';
import type { Connection } from '../api/connection.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { ConnectionRequest } from '../connection/state.ts';
import { report, warnOfHeldBack } from '../diagnostics/error-reporter.ts';
import { Counters, type SseStats } from '../diagnostics/stats.ts';
import { Registry } from '../hub/registry.ts';
import { spreadCloses } from '../hub/spread-closes.ts';
import { SweepTimer } from '../hub/sweep-timer.ts';
import { DEFAULT_RETRY, randomDelay } from '../options/delay-range.ts';
import type { Settings } from '../options/options.ts';
import { retryLine } from '../wire/event-stream.ts';
import type { Transport } from '../wire/transport.ts';
import { FeedAfter } from './feed-after.ts';
import type { RunFeed } from './run-feed.ts';
import { eventIdPrefix } from './run-id.ts';
import { RunLog, type SharedParts } from './run-log.ts';
import type { ChunkReader } from './run-service.ts';
import type { RunKey } from './run-store.ts';
import { lostState } from './run-state.ts';

export class RunReaders {
  /** Whether the router shuts down: it admits no more requests. */
  isClosing = false;
  readonly counters = new Counters();
  readonly timer: SweepTimer;
  readonly registry: Registry;
  /** The value of `router` in diagnostics messages. */
  readonly router: object;
  readonly #settings: Settings;
  readonly #shared: SharedParts;
  /** By the beginning of the event ids of each run. */
  readonly #logs = new Map<string, RunLog>();
  #resumed = 0;
  #lastSerial = 0;
  #hasWarnedOfHeldBack = false;

  /** @param sendsIds Whether events carry ids. */
  constructor(settings: Settings, chunks: ChunkReader, sendsIds: boolean, router: object) {
    this.#settings = settings;
    this.router = router;
    // A reader waits for the store as long as the store does not answer: an engine that is down ends no answer.
    this.timer = new SweepTimer((now) => this.registry.sweep(now, Infinity));
    this.registry = new Registry(settings.limits, this.counters, this.timer);
    const name = randomBytes(6).toString('base64url');
    this.#shared = {
      settings,
      registry: this.registry,
      timer: this.timer,
      counters: this.counters,
      router,
      sendsIds,
      chunks,
      nextSerial: () => ++this.#lastSerial,
      idOf: (serial) => `${name}-${serial.toString(36)}`,
      report: (error, connection) => this.report(error, connection),
      onHeldBack: () => this.#onHeldBack(),
      onUnread: (log) => this.#remove(log),
    };
  }

  /** Makes a connection that receives what follows the chunk with the number `after`. */
  admit(feed: RunFeed, after: number, transport: Transport, request: ConnectionRequest): ServerConnection {
    if (after > 0) this.#resumed++;
    return this.#logAt(feed, after).admit(transport, request, after);
  }

  /** Makes a connection that receives only the end `lost`: the log that its client has a part of is no longer there. */
  admitToLost({ id, generation }: RunKey, transport: Transport, request: ConnectionRequest): ServerConnection {
    // Not one of the logs: readers of a log that is there may have it still.
    return new RunLog(lostFeed({ id, generation }), this.#shared).admit(transport, request, 0);
  }

  #logAt(feed: RunFeed, after: number): RunLog {
    // Not one of the logs: their other readers lack the chunks that this client has.
    if (after > feed.position) return new RunLog(new FeedAfter(feed, after), this.#shared);
    const key = eventIdPrefix(feed.run);
    let log = this.#logs.get(key);
    if (log === undefined) this.#logs.set(key, (log = new RunLog(feed, this.#shared)));
    return log;
  }

  /**
   * Ends every connection with what its log has by now, after at most `wait` milliseconds. Resolves when no connection is left.
   * @param wait The time for the runs of other processes to end. Readers that can continue elsewhere need none.
   */
  async close(wait: number): Promise<void> {
    const empty = this.registry.whenEmpty();
    if (wait > 0) {
      let timer: NodeJS.Timeout | undefined;
      const waited = new Promise<void>((resolve) => void (timer = setTimeout(resolve, wait).unref()));
      await Promise.race([empty, waited]);
      clearTimeout(timer);
    }
    const retry = this.#settings.retry ?? DEFAULT_RETRY;
    await spreadCloses([...this.registry.all()], 0, (connection) =>
      connection.beginClose('shutdown', retryLine(randomDelay(retry))),
    );
    await empty;
    this.timer.stop();
  }

  stats(): SseStats {
    const counted = this.counters.toStats();
    let ringEntries = 0;
    let ringBytes = 0;
    for (const { ring } of this.#logs.values()) {
      ringEntries += ring.head - ring.first + 1;
      ringBytes += ring.bytes;
    }
    return {
      ...this.registry.gauges,
      channels: 0,
      ringEntries,
      ringBytes,
      ...counted,
      // For the core every reader resumes: a new one from before the first chunk.
      resumes: { ...counted.resumes, resumed: this.#resumed },
    };
  }

  report(error: unknown, connection?: ServerConnection): void {
    const { onError } = this.#settings;
    if (connection === undefined) report(onError, error, undefined);
    else connection.inContext(() => report(onError, error, connection as Connection));
  }

  /** Returns the logs of the runs that have readers in this process. */
  logs(): Iterable<RunLog> {
    return this.#logs.values();
  }

  /** Warns once per router, because the same middleware holds every response back. */
  #onHeldBack(): void {
    if (this.#hasWarnedOfHeldBack) return;
    this.#hasWarnedOfHeldBack = true;
    warnOfHeldBack();
  }

  #remove(log: RunLog): void {
    const key = eventIdPrefix(log.feed.run);
    if (this.#logs.get(key) === log) this.#logs.delete(key);
    log.close();
  }
}

/** Returns the feed of a run whose log is not there. */
function lostFeed(run: RunKey): RunFeed {
  const ended = lostState(run);
  return {
    run,
    position: 0,
    ended,
    subscribe(follower) {
      let isSubscribed = true;
      queueMicrotask(() => {
        if (isSubscribed) follower.end(ended);
      });
      return () => {
        isSubscribed = false;
      };
    },
    read: () => Promise.resolve(undefined),
  };
}
