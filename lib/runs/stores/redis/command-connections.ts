/*
 * The connections for commands: one, or one for each bucket of a cluster that is used.
 * Invariant: commands of one run use one connection at a time, so Redis executes them in the order of the calls.
 */
import type { SseError } from '../../../errors.ts';
import type { ClientAdapter } from '../../../journal/redis/clients.ts';
import { CommandConnection } from '../../../journal/redis/command-connection.ts';
import { isTransient, type RedisConnection, RedisError } from '../../../journal/redis/redis-connection.ts';
import { toText } from '../../../journal/redis/replies.ts';
import type { RunKeys } from './run-keys.ts';
import { REACHED, scriptNames, SCRIPTS } from './run-scripts.ts';
import type { Stalls } from './stalls.ts';

const MAX_RECONNECT_DELAY_MS = 500; // below the shortest sensible lease: producers must renew before any process judges a lease
const MAX_VOUCHED_DELAY_MS = 1_000; // a packet that the network lost is sent again after this time
const TICK_MS = 50;
const MAX_LOADING_MS = 3_600_000; // a Redis that was started longer ago than this has loaded its data

/** Opens the connections when they are needed. */
export class CommandConnections {
  readonly #adapter: ClientAdapter;
  readonly #keys: RunKeys;
  readonly #stalls: Stalls;
  readonly #onStatus: (part: object, up: boolean, error?: Error) => void;
  readonly #connections = new Map<number, CommandConnection>();
  #isCluster = false;
  #closed: SseError | undefined;

  constructor(
    adapter: ClientAdapter,
    keys: RunKeys,
    stalls: Stalls,
    onStatus: (part: object, up: boolean, error?: Error) => void,
  ) {
    this.#adapter = adapter;
    this.#keys = keys;
    this.#stalls = stalls;
    this.#onStatus = onStatus;
  }

  /** Whether keys of two buckets may be in two slots, so that no command can have both. Valid after {@link open}. */
  get isCluster(): boolean {
    return this.#isCluster;
  }

  /** Why there is no connection. */
  get downReason(): Error | undefined {
    return this.#connections.get(0)?.downReason;
  }

  /** Connects, and finds out whether this is a cluster. Waits for as long as Redis is unreachable. */
  async open(): Promise<void> {
    // Counts the time in which this process waited for Redis: when it starts, it is busy itself, which shows nothing about Redis.
    let waitedMs = 0;
    const ticking = setInterval(() => (waitedMs += TICK_MS), TICK_MS).unref();
    try {
      const first = this.#get(0);
      this.#isCluster = await isCluster(first, this.#keys);
      const reachableMs = await first.run((connection) => this.#reachableMs(connection));
      // Have processes reached Redis for long, and was it reachable at once? Then producers have been able to renew.
      this.#stalls.onOpened(waitedMs > MAX_VOUCHED_DELAY_MS ? 0 : reachableMs);
    } finally {
      clearInterval(ticking);
    }
  }

  /** Returns the connection for the keys of a bucket. */
  of(bucket: number): CommandConnection {
    return this.#get(this.#isCluster ? bucket : 0);
  }

  close(error: SseError): void {
    this.#closed = error;
    for (const connection of this.#connections.values()) connection.close(error);
  }

  #get(bucket: number): CommandConnection {
    let connection = this.#connections.get(bucket);
    if (connection) return connection;
    const part = {};
    let wasConnected = false;
    connection = new CommandConnection(
      this.#adapter,
      this.#keys.probes()[bucket]!,
      { owner: 'redisRuns', scripts: SCRIPTS, waitMs: Infinity, maxDelayMs: MAX_RECONNECT_DELAY_MS },
      {
        onConnected: (open) => {
          if (wasConnected) {
            this.#stalls.onReconnect();
            if (bucket === 0) this.#reachableMs(open).catch(() => {}); // for the processes that start from now on
          }
          wasConnected = true;
          this.#onStatus(part, true);
        },
        onDisconnected: () => {
          this.#stalls.onReconnect();
          this.#onStatus(part, false, this.#connections.get(bucket)?.downReason);
        },
      },
    );
    this.#connections.set(bucket, connection);
    if (this.#closed) connection.close(this.#closed);
    return connection;
  }

  /**
   * Returns for how many milliseconds processes have been able to reach Redis since it was started; 0 if that is unknown, as with
   * some ACLs. Redis' own uptime counts from before it loads its data, and nobody can renew while it loads. (Tried: a process that
   * started just then ended all runs, before their producers had connected again.) So the first process notes in Redis when it came.
   */
  async #reachableMs(connection: RedisConnection): Promise<number> {
    try {
      const info = toText(await connection.command(['INFO', 'server']));
      const id = /^run_id:(\w+)/m.exec(info)?.[1];
      const uptime = Number(/^uptime_in_seconds:(\d+)/m.exec(info)?.[1] ?? 0) * 1000;
      if (id === undefined) return 0;
      if (uptime > MAX_LOADING_MS) return uptime - MAX_LOADING_MS;
      const script = scriptNames().get(REACHED)!;
      const reply = await connection.command(['EVALSHA', script, '1', this.#keys.uptime(), id, String(MAX_LOADING_MS)]);
      return Number(reply);
    } catch (error) {
      if (isTransient(error)) throw error;
      return 0;
    }
  }
}

/** Sends one command that names a key of each bucket: this needs no permission beyond that for the keys. */
async function isCluster(first: CommandConnection, keys: RunKeys): Promise<boolean> {
  try {
    await first.query([['EXISTS', ...keys.probes()]], Infinity);
    return false;
  } catch (error) {
    const { cause } = error as Error;
    if (!(cause instanceof RedisError) || cause.code !== 'CROSSSLOT') throw error;
    return true;
  }
}
