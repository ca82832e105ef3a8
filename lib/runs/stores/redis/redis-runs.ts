/*
 * The logs of runs in Redis or Valkey: one stream for each generation, for several machines.
 * Invariant: an append is one XADD with the next id. The end has the highest id, so Redis itself refuses every later append.
 * Invariant: Redis' clock alone decides whether a lease has expired.
 * Invariant: a run is ended as lost only if its producer had a whole lease of undisturbed time to renew it; see stalls.ts.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { SseError } from '../../../errors.ts';
import { invalid, rejectUnknownKeys } from '../../../validation/validate.ts';
import {
  adapterFor,
  keyCure,
  type ClientAdapter,
  type IORedis,
  type NodeRedisClient,
} from '../../../journal/redis/clients.ts';
import { type CommandConnection, journalError } from '../../../journal/redis/command-connection.ts';
import { Opening } from '../../../journal/opening.ts';
import { readSettings, warn } from '../../../journal/redis/maintenance.ts';
import type { Arg, RedisConnection } from '../../../journal/redis/redis-connection.ts';
import { toList, toText } from '../../../journal/redis/replies.ts';
import type {
  BeginResult,
  ChunkPage,
  NewRun,
  Renewal,
  RunFollower,
  RunKey,
  RunState,
  RunStatus,
  RunStore,
  RunStoreListener,
} from '../../run-store.ts';
import { CommandConnections } from './command-connections.ts';
import { bucketOf, BUCKETS, isKeyPrefix, type KeysOfRun, RunKeys } from './run-keys.ts';
import type { FollowedRun, StreamReader } from './stream-reader.ts';
import { StreamReaders } from './stream-readers.ts';
import { encodeChunks, parseEntry, parseRecord, type RunRecord, toState } from './run-record.ts';
import { APPEND, BEGIN, END, NOTE_READERS, RENEW, scriptNames, STATE, STOP } from './run-scripts.ts';
import { now, Stalls } from './stalls.ts';

/** Where {@link redisRuns} keeps its runs. */
export interface RedisRunsOptions {
  /**
   * The beginning of every key. If the client has a `keyPrefix`, it is added in front. An ACL needs the pattern `~{sse:runs:*`, or
   * `~{<key>:*` for another key. In a cluster, runs are spread over 16 slots; a key with a `{hash tag}` keeps them all in one.
   * @defaultValue 'sse:runs'
   */
  readonly key?: string;
}

/** The function that the application calls; errors begin with it. */
const OWNER = 'redisRuns';
const DEFAULT_KEY = 'sse:runs';
const NAME_BYTES = 9; // 72 random bits: no two processes have one wake stream
const WAKE_LENGTH = '100';
const WAKE_EXPIRY_MS = '60000'; // longer than an entry takes to its reader; the renewal of a lease reports a stop as well
const MAX_BLOCK_MS = 1_000; // also bounds how long a run is followed late if the entry that ends a read is lost
const MIN_BLOCK_MS = 100;
const RUNS_PER_SCRIPT = 100; // a script blocks Redis: renewing 100 runs takes 1 ms
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
const UNREACHABLE_MS = 5_000;

/** A run that this handle has begun, and that has not ended. */
interface OwnRun {
  readonly run: RunKey;
  readonly keys: KeysOfRun;
  readonly commands: CommandConnection;
  /** The number of the last chunk that is stored for certain, and the size of the log up to it. */
  last: number;
  bytes: number;
  /** The number of the last chunk of the append in flight. */
  pending: number;
  /** The connection on which the log is known to end at {@link last}. */
  connection: RedisConnection | undefined;
  isStopReported: boolean;
}

/**
 * Creates a store of runs in Redis (6.2 or later) or Valkey. The client is only duplicated: each process uses one connection for
 * commands, and one for each hundred runs that it follows. A plain client and a cluster client both work, with TLS, ACL and
 * `keyPrefix`; in a cluster, a process has up to 16 times as many connections.
 *
 * Redis must not evict keys (`maxmemory-policy noeviction`), and should have `appendonly yes`: a run whose keys are lost ends as
 * `lost`.
 *
 * @example
 * ```ts
 * const answers = runs(produce, { store: redisRuns(createClient({ url: 'redis://localhost' })) });
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the client is of neither package, or if an option is unknown or out of range.
 */
export function redisRuns(client: IORedis | NodeRedisClient, options: RedisRunsOptions = {}): RunStore {
  const adapter = adapterFor(client, 'redisRuns');
  rejectUnknownKeys('option of redisRuns()', options, { key: true });
  const { key = DEFAULT_KEY } = options;
  if (typeof key !== 'string' || key === '' || !isKeyPrefix(adapter.keyPrefix + key)) {
    throw invalid('redisRuns: key', 'a non-empty string without braces, or with one {hash tag}', key, {
      cure: keyCure(adapter, DEFAULT_KEY),
    });
  }
  return new RedisRuns(adapter, new RunKeys(adapter.keyPrefix + key));
}

class RedisRuns implements RunStore {
  readonly #adapter: ClientAdapter;
  readonly #keys: RunKeys;
  readonly #stalls = new Stalls();
  readonly #connections: CommandConnections;
  readonly #names = scriptNames();
  readonly #home = { bucket: randomInt(BUCKETS), name: randomBytes(NAME_BYTES).toString('base64url') };
  readonly #own = new Map<string, OwnRun>();
  readonly #down = new Set<object>();
  #readers: StreamReaders | undefined;
  #listener: RunStoreListener | undefined;
  #isUp: boolean | undefined;
  #blockMs = MAX_BLOCK_MS;
  #meanEntryBytes = 0;
  readonly #opening = new Opening(() => this.#open());
  #closed: SseError | undefined;

  constructor(adapter: ClientAdapter, keys: RunKeys) {
    this.#adapter = adapter;
    this.#keys = keys;
    this.#connections = new CommandConnections(adapter, keys, this.#stalls, (part, up, error) =>
      this.#onStatus(part, up, error),
    );
  }

  /** Waits for as long as Redis is unreachable, with a warning. Rejects only if waiting is no cure, as with a wrong password. */
  async open(listener: RunStoreListener): Promise<void> {
    this.#listener = listener;
    await this.#opened();
  }

  async begin(newRun: NewRun): Promise<BeginResult> {
    const { id, generation, lease } = newRun;
    const readers = await this.#opened();
    this.#noteLease(lease);
    readers.listen();
    const run = { id, generation };
    const keys = this.#keys.of(run);
    const own: OwnRun = {
      run,
      keys,
      commands: this.#connections.of(keys.bucket),
      last: 0,
      bytes: 0,
      pending: 0,
      connection: undefined,
      isStopReported: false,
    };
    this.#own.set(nameOf(run), own); // before it begins: a stop may arrive before the reply
    let hasStarted = false;
    try {
      const result = await this.#begin(newRun, own);
      hasStarted = result.started;
      return result;
    } finally {
      if (!hasStarted) this.#own.delete(nameOf(run));
    }
  }

  async #begin({ id, generation, again, lease, keep, signal }: NewRun, own: OwnRun): Promise<BeginResult> {
    const { keys, commands, run } = own;
    const wake = `${this.#home.bucket}:${this.#home.name}`;
    let previous: RunKey | undefined;
    /** The lease of the previous generation, once it has expired undisturbed. */
    let expiredLease = Infinity;
    for (;;) {
      const old = previous && this.#keys.of(previous);
      let since = now();
      let isSent = false; // a reply that begins nothing is followed by another attempt
      const replies = await commands.run(async (connection) => {
        if (!isSent && signal?.aborted) return undefined; // it has waited for a connection
        isSent = true;
        since = now();
        own.connection = connection;
        const allKeys = [keys.newest, keys.meta, keys.log, ...(old ? [old.meta, old.log] : [])];
        // Judged for each connection: if this one is lost, the previous generation may be renewed first on the next one.
        const mayEnd = this.#stalls.graceOf(expiredLease) === 0 && expiredLease !== Infinity ? 1 : 0;
        const values = [generation, lease, keep, again, wake, previous?.generation ?? '', mayEnd];
        return Promise.all([connection.command(this.#script(BEGIN, allKeys, values)), connection.command(['TIME'])]);
      });
      if (replies === undefined) throw signal!.reason;
      const [reply, time] = replies;
      this.#stalls.onReply(commands, since, parseTime(time));
      const [what, value] = toList(reply);
      const outcome = toText(what);
      if (outcome === 'previous') {
        previous = { id, generation: toText(value) };
        // Its producer is notified first: it must not produce for longer than the other run exists.
        if (again === 'replace') await this.#stop(previous);
        continue;
      }
      const record = parseRecord(value);
      if (record === undefined) {
        throw new SseError('ERR_SSE_JOURNAL', `redisRuns: Redis has lost the run ${JSON.stringify(id)}.`);
      }
      if (outcome === 'started') return { started: true, state: toState(run, record) };
      this.#noteLease(record.lease);
      const grace = outcome === 'expired' ? this.#stalls.graceOf(record.lease) : 0;
      if (outcome === 'expired' && grace === 0) expiredLease = record.lease;
      else return { started: false, state: toState(previous!, record, grace || Math.max(record.left, 1)) };
    }
  }

  append(run: RunKey, first: number, chunks: readonly Uint8Array[]): Promise<'stored' | 'refused'> {
    if (this.#closed) return Promise.reject(this.#closed);
    const own = this.#own.get(nameOf(run));
    const [sizes, data] = encodeChunks(chunks);
    const last = first + chunks.length - 1;
    const connection = own?.commands.connection;
    if (own === undefined || connection === undefined || own.connection !== connection || own.last !== first - 1) {
      return this.#appendChecked(run, own, first, last, sizes, data);
    }
    // The fast path, without a promise beyond that of the command: a process stores up to 50,000 chunks a second.
    own.pending = last;
    const bytes = own.bytes + data.length;
    return connection.command(['XADD', own.keys.log, 'NOMKSTREAM', `${last}-${bytes}`, sizes, data]).then(
      (id) => {
        if (id === null || id === undefined) return this.#appendChecked(run, own, first, last, sizes, data);
        own.last = last;
        own.bytes = bytes;
        return 'stored';
      },
      () => {
        own.connection = undefined; // refused, lost, or an error that the next attempt returns as well
        return this.#appendChecked(run, own, first, last, sizes, data);
      },
    );
  }

  /** Appends, unless a lost reply has hidden that the chunks are stored: after an error, and first on each connection. */
  async #appendChecked(
    run: RunKey,
    own: OwnRun | undefined,
    first: number,
    last: number,
    sizes: string,
    data: Buffer,
  ): Promise<'stored' | 'refused'> {
    await this.#opened();
    const keys = own?.keys ?? this.#keys.of(run);
    if (own) own.pending = last;
    let connection: RedisConnection | undefined;
    const reply = await this.#connections.of(keys.bucket).run((open) => {
      connection = open;
      return open.command(this.#script(APPEND, [keys.log], [first - 1, last, data.length, sizes, data]));
    });
    const [what, bytes] = toList(reply).map(toText);
    if (what === 'stored') {
      if (own) Object.assign(own, { last, bytes: Number(bytes), connection });
      return 'stored';
    }
    // Redis has lost chunks, or the whole log. What other processes have delivered cannot be continued.
    if (what !== 'ended') await this.#end(run, 'lost');
    return 'refused'; // the run stays one of this handle until its caller ends it: a stop may be on its way
  }

  async end(run: RunKey, status: Exclude<RunStatus, 'running'>): Promise<RunState | undefined> {
    await this.#opened();
    const own = this.#own.get(nameOf(run));
    const record = await this.#end(run, status, own && [own.last, own.pending]);
    this.#own.delete(nameOf(run));
    return record && toState(run, record);
  }

  async renew(runs: readonly RunKey[]): Promise<readonly Renewal[]> {
    await this.#opened();
    const renewals: Renewal[] = [];
    await this.#inParts(runs, async (commands, part) => {
      const keys = part.flatMap(({ keys: { newest, meta, log } }) => [newest, meta, log]);
      const script = this.#script(
        RENEW,
        keys,
        part.map(({ run }) => run.generation),
      );
      const [reply] = await commands.query([script]);
      for (const [i, flags] of toList(reply).map(Number).entries()) {
        renewals[part[i]!.index] = {
          running: (flags & 1) !== 0,
          stopRequested: (flags & 2) !== 0,
          hasReaders: (flags & 4) !== 0,
        };
      }
    });
    return renewals;
  }

  async stop(id: string, generation?: string): Promise<boolean> {
    const run = await this.#runOf(id, generation);
    return run !== undefined && this.#stop(run);
  }

  async state(id: string, generation?: string): Promise<RunState | undefined> {
    const run = await this.#runOf(id, generation);
    return run && this.#stateOf(run);
  }

  async read(run: RunKey, after: number, limit: number): Promise<ChunkPage | undefined> {
    await this.#opened();
    const { log, bucket } = this.#keys.of(run);
    for (;;) {
      const state = await this.#stateOf(run);
      if (state === undefined) return undefined;
      const wanted = Math.min(limit, state.chunks - after);
      if (wanted <= 0) return { chunks: [], state };
      const count = Math.floor(MAX_PAGE_BYTES / Math.max(this.#meanEntryBytes, 1));
      const range = ['XRANGE', log, `${after + 1}-0`, '+', 'COUNT', String(Math.max(1, Math.min(count, wanted)))];
      const reply = await this.#ask(bucket, range);
      const chunks = this.#chunksIn(run, toList(reply), after, wanted);
      if (chunks.length > 0) return { chunks, state };
      if (toList(reply).length > 0) return undefined; // the log does not continue here
      // The log has been dropped or has lost chunks since: its state shows which.
    }
  }

  follow(run: RunKey, after: number, follower: RunFollower): () => void {
    const keys = this.#keys.of(run);
    const followed: FollowedRun = { run, keys, follower, position: after, bytes: 0, checkAt: 0 };
    let isFollowing = true;
    const begin = (readers: StreamReaders): void => {
      if (isFollowing && !this.#closed) readers.follow(followed);
    };
    if (this.#readers) begin(this.#readers);
    else void this.#opened().then(begin, () => {}); // open() reports why
    return () => {
      isFollowing = false;
      this.#readers?.unfollow(followed);
    };
  }

  async noteReaders(runs: readonly RunKey[], ms: number): Promise<void> {
    await this.#opened();
    await this.#inParts(runs, async (commands, part) => {
      await commands.query([
        this.#script(
          NOTE_READERS,
          part.map(({ keys }) => keys.meta),
          [ms],
        ),
      ]);
    });
  }

  async close(): Promise<void> {
    this.#closed ??= new SseError('ERR_SSE_CLOSED', 'This store of runs is closed. Create a new one.');
    this.#readers?.stop();
    this.#own.clear();
    this.#connections.close(this.#closed);
  }

  /** Opens the store, once. Every method waits for it: before, it is unknown whether Redis is a cluster. */
  #opened(): Promise<StreamReaders> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#opening.get();
  }

  async #open(): Promise<StreamReaders> {
    const warningTimer = setTimeout(() => {
      const reason = this.#connections.downReason?.message ?? 'no reply';
      warn(
        'SSE_REDIS_UNREACHABLE',
        `Redis has been unreachable for ${UNREACHABLE_MS} ms (${reason}); the store of runs keeps trying.`,
      );
    }, UNREACHABLE_MS).unref();
    try {
      await this.#connections.open();
    } finally {
      clearTimeout(warningTimer);
    }
    if (this.#closed) throw this.#closed;
    void warnAboutSettings(this.#connections.of(0));
    this.#readers = this.#createReaders();
    return this.#readers;
  }

  #createReaders(): StreamReaders {
    const blockMs = (): number => this.#blockMs;
    return new StreamReaders(
      {
        adapter: this.#adapter,
        stalls: this.#stalls,
        get blockMs() {
          return blockMs();
        },
        wakeKey: (bucket, name) => this.#keys.wake(bucket, name),
        wake: (reader) => this.#addToWakeStream(reader.bucket, reader.wakeKey, 'wake', ''),
        onStopEntry: (run) => this.#reportStop(run),
        onStatus: (reader: StreamReader, up, error) => this.#onStatus(reader, up, error),
        missingOf: (runs) => this.#missingOf(runs),
        onGap: (run) => void this.#end(run, 'lost').catch(() => {}),
      },
      this.#connections.isCluster,
      this.#home,
    );
  }

  #script(script: string, keys: readonly string[], values: readonly (string | number | Buffer)[]): (string | Buffer)[] {
    const texts = values.map((value) => (typeof value === 'number' ? String(value) : value));
    return ['EVALSHA', this.#names.get(script)!, String(keys.length), ...keys, ...texts];
  }

  /** Sends one command, and measures when Redis executes it: if late, this is a sign that producers could not renew either. */
  async #ask(bucket: number, command: readonly Arg[]): Promise<unknown> {
    let since = now();
    const commands = this.#connections.of(bucket);
    const [reply, time] = await commands.run((connection) => {
      since = now(); // of this attempt: the time without a connection counts as a reconnect
      return Promise.all([connection.command(command), connection.command(['TIME'])]);
    });
    this.#stalls.onReply(commands, since, parseTime(time));
    return reply;
  }

  /** Returns the generation that is meant; `undefined` if there is none. */
  async #runOf(id: string, generation: string | undefined): Promise<RunKey | undefined> {
    await this.#opened();
    if (generation !== undefined) return { id, generation };
    const reply = await this.#ask(bucketOf(id), ['GET', this.#keys.newest(id)]);
    return reply === null || reply === undefined ? undefined : { id, generation: toText(reply) };
  }

  async #stateOf(run: RunKey): Promise<RunState | undefined> {
    const { meta, log, bucket } = this.#keys.of(run);
    return this.#judge(run, parseRecord(await this.#ask(bucket, this.#script(STATE, [meta, log], []))));
  }

  /** Ends a run whose lease has expired, unless its producer may have been unable to renew it. Returns the state. */
  async #judge(run: RunKey, record: RunRecord | undefined): Promise<RunState | undefined> {
    if (record === undefined) return undefined;
    this.#noteLease(record.lease);
    if (record.status !== 'running' || record.left > 0) return toState(run, record);
    const grace = this.#stalls.graceOf(record.lease);
    if (grace > 0) return toState(run, record, grace);
    const ended = await this.#end(run, 'lost', undefined, record.expires);
    return ended && toState(run, ended, Math.max(ended.left, 1));
  }

  /** `chunks`: the numbers that the newest chunk may have. `expires`: ends the run only if its lease has not been renewed. */
  async #end(
    run: RunKey,
    status: RunStatus,
    chunks?: readonly [number, number],
    expires = '',
  ): Promise<RunRecord | undefined> {
    const { newest, meta, log, bucket } = this.#keys.of(run);
    const values = [run.generation, status, chunks?.[0] ?? '', chunks?.[1] ?? '', expires];
    return parseRecord(await this.#ask(bucket, this.#script(END, [newest, meta, log], values)));
  }

  async #stop(run: RunKey): Promise<boolean> {
    const { meta, log, bucket } = this.#keys.of(run);
    const record = parseRecord(await this.#ask(bucket, this.#script(STOP, [meta, log], [''])));
    if (record === undefined || record.status !== 'running') return false;
    if (record.left <= 0) {
      const state = await this.#judge(run, record);
      if (state?.status !== 'running') return false;
      await this.#ask(bucket, this.#script(STOP, [meta, log], ['1']));
    }
    if (this.#own.has(nameOf(run))) queueMicrotask(() => this.#reportStop(run));
    else {
      const colon = record.wake.indexOf(':');
      const wakeBucket = Number(record.wake.slice(0, colon));
      const wakeKey = this.#keys.wake(wakeBucket, record.wake.slice(colon + 1));
      this.#addToWakeStream(wakeBucket, wakeKey, 'stop', `${run.generation}:${run.id}`);
    }
    return true;
  }

  #reportStop(run: RunKey): void {
    const own = this.#own.get(nameOf(run));
    if (own === undefined || own.isStopReported || this.#closed) return;
    own.isStopReported = true;
    this.#listener?.onStop(own.run);
  }

  /** An entry that is lost is no error: reads end by themselves, and the renewal of a lease reports a stop. */
  #addToWakeStream(bucket: number, key: string, field: 'stop' | 'wake', value: string): void {
    const commands = [
      ['XADD', key, 'MAXLEN', '~', WAKE_LENGTH, '*', field, value],
      ['PEXPIRE', key, WAKE_EXPIRY_MS],
    ];
    this.#connections
      .of(bucket)
      .query(commands)
      .catch(() => {});
  }

  async #missingOf(runs: readonly FollowedRun[]): Promise<readonly FollowedRun[]> {
    const replies = await Promise.all(
      runs.map(({ keys }) => this.#connections.of(keys.bucket).query([['EXISTS', keys.log]])),
    );
    return runs.filter((_, i) => Number(replies[i]![0]) === 0);
  }

  #chunksIn(run: RunKey, entries: readonly unknown[], after: number, limit: number): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    let [next, bytes, count] = [after + 1, 0, 0];
    for (const reply of entries) {
      const entry = parseEntry(run, reply);
      if (entry === undefined || 'end' in entry || entry.first > next) break;
      for (let i = next - entry.first; i < entry.chunks.length && chunks.length < limit; i++)
        chunks.push(entry.chunks[i]!);
      bytes += entry.chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
      count++;
      next = entry.last + 1;
    }
    if (count > 0) this.#meanEntryBytes = Math.max(bytes / count, this.#meanEntryBytes * 0.9);
    return chunks;
  }

  /** Calls `work` with runs of one connection, at most {@link RUNS_PER_SCRIPT} at a time. */
  async #inParts(
    runs: readonly RunKey[],
    work: (commands: CommandConnection, part: { run: RunKey; keys: KeysOfRun; index: number }[]) => Promise<void>,
  ): Promise<void> {
    const parts = new Map<CommandConnection, { run: RunKey; keys: KeysOfRun; index: number }[]>();
    for (const [index, run] of runs.entries()) {
      const keys = this.#keys.of(run);
      const commands = this.#connections.of(keys.bucket);
      const part = parts.get(commands);
      if (part) part.push({ run, keys, index });
      else parts.set(commands, [{ run, keys, index }]);
    }
    await Promise.all(
      [...parts].map(async ([commands, part]) => {
        for (let from = 0; from < part.length; from += RUNS_PER_SCRIPT) {
          await work(commands, part.slice(from, from + RUNS_PER_SCRIPT));
        }
      }),
    );
  }

  /** A blocking read is also the proof that Redis was reachable, so it ends several times in the shortest lease. */
  #noteLease(lease: number): void {
    this.#blockMs = Math.max(MIN_BLOCK_MS, Math.min(this.#blockMs, Math.floor(lease / 2)));
  }

  #onStatus(part: object, up: boolean, error?: Error): void {
    if (this.#closed) return;
    if (up) this.#down.delete(part);
    else this.#down.add(part);
    const isUp = this.#down.size === 0;
    if (isUp === this.#isUp) return;
    this.#isUp = isUp;
    const cause = error ?? new Error('the connection was closed');
    this.#listener?.onStatus?.(isUp, isUp ? undefined : journalError('cannot be reached', cause, OWNER));
  }
}

/** Returns the milliseconds of a reply to TIME. */
function parseTime(reply: unknown): number {
  const [seconds, micros] = toList(reply).map(toText);
  return Number(seconds) * 1000 + Number(micros) / 1000;
}

function nameOf({ id, generation }: RunKey): string {
  return `${generation}:${id}`;
}

/** Warns about settings with which Redis may lose runs. */
async function warnAboutSettings(commands: CommandConnection): Promise<void> {
  const { policy, isOnlyInMemory } = await readSettings((list) => commands.query(list));
  if (policy !== undefined && policy !== 'noeviction') {
    warn(
      'SSE_REDIS_EVICTION',
      `Redis may evict runs: its maxmemory-policy is ${policy}. ` +
        'Set maxmemory-policy to noeviction; otherwise running runs end as lost when memory is short.',
    );
  }
  if (isOnlyInMemory) {
    warn(
      'SSE_REDIS_PERSISTENCE',
      'Redis keeps runs only in memory: a restart of Redis ends running runs as lost. Set appendonly to yes.',
    );
  }
}
