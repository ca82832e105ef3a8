/*
 * The runs in one LMDB database: their records, their chunks, and the changes of each of them, as steps of a transaction.
 * Invariant: a record and the chunks that it counts are of the same transaction.
 * Invariant: a chunk is added only to a running run, directly after its newest chunk.
 */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RootDatabase } from 'lmdb';
import { Environment } from '../../../journal/lmdb/environment.ts';
import { DATABASE_FILES } from '../../../journal/lmdb/lmdb-errors.ts';
import type { BeginResult, NewRun, Renewal, RunKey, RunState, RunStatus } from '../../run-store.ts';
import { bootId, type ProcessIdentity } from './process-identity.ts';

/** One generation as it is stored. Times are milliseconds since 1970. */
export interface RunRecord extends RunKey {
  readonly status: RunStatus;
  readonly startedAt: number;
  readonly endedAt?: number;
  readonly chunks: number;
  readonly bytes: number;
  readonly lease: number;
  readonly keep: number;
  /** When the lease expires. */
  readonly leaseEnd: number;
  readonly stopRequested?: true;
  readonly readersUntil?: number;
  readonly producer: ProcessIdentity;
  /** The time in the index by which runs are dropped. */
  readonly index: number;
}

/** What other processes have changed. */
export interface Changes {
  /** The number of the newest change. */
  readonly head: number;
  /** The keys of the changed runs; `undefined`: any run may have changed. */
  readonly keys: ReadonlySet<string> | undefined;
}

type Key = number | (number | string)[];
type EndStatus = Exclude<RunStatus, 'running'>;

/** One step of the list of changes: the handle that made it, and its runs. */
interface Change {
  readonly n: number;
  readonly by: string;
  readonly keys?: readonly string[];
}

const FORMAT_KEY = 0;
const HEAD_KEY = 1; // the number of the newest change
const FORMAT = 'runs-1';
const CHANGES = 256; // that the list has; a process that missed more looks at all runs that it follows or produces
const MAX_CHANGED_KEYS = 512; // of one change; more are written as "any run"
const MAX_REMOVED_CHUNKS = 1000; // in one transaction: about 5 ms
const MAX_PAGE_BYTES = 1024 * 1024;
const BOOT_FILE = 'boot';

/** One open database with runs. Methods that change it are called within {@link RunDatabase.commit} only. */
export class RunDatabase {
  readonly #environment: Environment<Key>;
  readonly #db: RootDatabase<Buffer, Key>;
  readonly #handle: string;
  /** The runs that the current transaction has changed. */
  readonly #changed = new Set<string>();

  /** `handle` names this handle in the list of changes. @throws {SseError} `ERR_SSE_JOURNAL` */
  constructor(path: string, sync: boolean, handle: string) {
    const prepare = sync ? undefined : () => discardAfterRestart(path);
    this.#environment = new Environment(path, { kind: 'lmdbRuns', sync, prepare }, (db) => {
      if (db.get(FORMAT_KEY) === undefined) void db.put(FORMAT_KEY, Buffer.from(FORMAT));
    });
    this.#db = this.#environment.db;
    this.#handle = handle;
    const format = this.#db.get(FORMAT_KEY)?.toString();
    if (format === FORMAT) return;
    void this.close();
    throw this.#environment.damaged('this version does not support its format');
  }

  get isCurrent(): boolean {
    return this.#environment.isCurrent;
  }

  get isCommitting(): boolean {
    return this.#environment.isCommitting;
  }

  /** The number of the newest change. */
  get head(): number {
    return this.#db.get(HEAD_KEY)?.readDoubleLE(0) ?? 0;
  }

  /** Reads from now on what has been committed until now. Otherwise, lmdb reads the state as of the beginning of this tick. */
  refresh(): void {
    this.#db.resetReadTxn();
  }

  record(key: string): RunRecord | undefined {
    const json = this.#db.get(['r', key]);
    return json && (JSON.parse(json.toString()) as RunRecord);
  }

  /** Returns the key of the newest generation of a run id. */
  newestOf(id: string): string | undefined {
    return this.#db.get(['i', hashOf(id)])?.toString();
  }

  /** Returns chunks in a row: at least one, if there is one. */
  chunks(key: string, after: number, limit: number): Buffer[] {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for (const { key: found, value } of this.#db.getRange({
      start: ['c', key, after + 1],
      end: ['c', key, after + 1 + limit],
    })) {
      const n = (found as unknown[])[2];
      if (n !== after + 1 + chunks.length)
        throw this.#environment.damaged(`chunk ${after + 1 + chunks.length} is missing`);
      bytes += value.byteLength;
      if (bytes > MAX_PAGE_BYTES && chunks.length > 0) break;
      chunks.push(value);
    }
    return chunks;
  }

  /** Returns what other handles have changed after the change number `after`. */
  changesSince(after: number): Changes {
    const { head } = this;
    if (head < after || head - after >= CHANGES) return { head, keys: undefined };
    const keys = new Set<string>();
    for (let n = after + 1; n <= head; n++) {
      const change = JSON.parse(this.#db.get(['w', n % CHANGES])?.toString() ?? '{}') as Partial<Change>;
      if (change.n === n && change.by === this.#handle) continue;
      if (change.n !== n || change.keys === undefined) return { head, keys: undefined };
      for (const key of change.keys) keys.add(key);
    }
    return { head, keys };
  }

  /** Whether a run has to be dropped, or a part of one. */
  needsTrim(now: number): boolean {
    for (const _ of this.#db.getKeys({ start: ['x'], end: ['x', now], limit: 1 })) return true;
    return false;
  }

  /** Runs steps in one transaction. Resolves with their result and the keys of the runs that they have changed. */
  async commit<T>(steps: () => T): Promise<{ readonly result: T; readonly changed: ReadonlySet<string> }> {
    return this.#environment.commit(() => {
      this.#changed.clear();
      const result = steps();
      const changed = new Set(this.#changed);
      if (changed.size > 0) this.#writeChange([...changed]);
      return { result, changed };
    });
  }

  begin({ id, generation, again, lease, keep }: NewRun, producer: ProcessIdentity, now: number): BeginResult {
    const current = this.newestOf(id);
    const running = current === undefined ? undefined : this.record(current);
    if (running?.status === 'running') {
      if (again !== 'replace') return { started: false, state: stateOf(running, now) };
      this.#end(current!, { ...running, stopRequested: true }, 'stopped', now);
    }
    const key = keyOf({ id, generation });
    const record: RunRecord = {
      id,
      generation,
      status: 'running',
      startedAt: now,
      chunks: 0,
      bytes: 0,
      lease,
      keep,
      leaseEnd: now + lease,
      producer,
      index: now + lease + keep,
    };
    this.#write(key, record);
    void this.#db.put(['i', hashOf(id)], Buffer.from(key));
    void this.#db.put(['x', record.index, key], EMPTY);
    return { started: true, state: stateOf(record, now) };
  }

  append(key: string, first: number, chunks: readonly Uint8Array[], now: number): 'stored' | 'refused' {
    const record = this.record(key);
    if (record?.status !== 'running') return 'refused';
    if (first !== record.chunks + 1) {
      this.#end(key, record, 'lost', now);
      return 'refused';
    }
    let { bytes } = record;
    for (const [i, { buffer, byteOffset, byteLength }] of chunks.entries()) {
      void this.#db.put(['c', key, first + i], Buffer.from(buffer, byteOffset, byteLength));
      bytes += byteLength;
    }
    this.#write(key, { ...record, chunks: record.chunks + chunks.length, bytes });
    this.#changed.add(key);
    return 'stored';
  }

  /** Ends a run, unless it has ended. `condition`: leaves a run alone that does not fulfil it. */
  end(key: string, status: EndStatus, now: number, condition?: (record: RunRecord) => boolean): RunState | undefined {
    const record = this.record(key);
    if (record === undefined || isDropped(record, now)) return undefined;
    if (record.status !== 'running' || condition?.(record) === false) return stateOf(record, now);
    return stateOf(this.#end(key, record, status, now), now);
  }

  renew(key: string, now: number): Renewal {
    const record = this.record(key);
    if (record === undefined) return { running: false, stopRequested: false, hasReaders: false };
    const running = record.status === 'running';
    if (running) this.#write(key, { ...record, leaseEnd: now + record.lease });
    return { running, stopRequested: record.stopRequested === true, hasReaders: (record.readersUntil ?? 0) > now };
  }

  stop(key: string): boolean {
    const record = this.record(key);
    if (record?.status !== 'running') return false;
    if (!record.stopRequested) this.#write(key, { ...record, stopRequested: true });
    this.#changed.add(key);
    return true;
  }

  noteReaders(key: string, until: number): void {
    const record = this.record(key);
    if (record?.status === 'running') this.#write(key, { ...record, readersUntil: until });
  }

  /**
   * Drops runs whose time is over, oldest first, and at most {@link MAX_REMOVED_CHUNKS} chunks. A running run has an entry in the
   * index for the time at which it would be dropped if it were never renewed: if that time has passed, the entry moves.
   * `mayDrop`: whether the lease of a running run counts now.
   */
  trim(now: number, mayDrop: (record: RunRecord) => boolean): void {
    let budget = MAX_REMOVED_CHUNKS;
    const due = [...this.#db.getKeys({ start: ['x'], end: ['x', now], limit: MAX_REMOVED_CHUNKS / 10 })];
    for (const index of due) {
      const key = (index as string[])[2]!;
      const record = this.record(key);
      if (record?.status === 'running' && (dropTimeOf(record) > now || !mayDrop(record))) {
        this.#write(key, this.#moved(key, record, Math.max(dropTimeOf(record), now + record.lease)));
        continue;
      }
      if (record !== undefined) this.#remove(key, record);
      budget -= this.#removeChunks(key, budget);
      if (budget <= 0) return; // its index entry stays for the rest
      void this.#db.remove(index);
    }
  }

  releaseDeadReaders(): void {
    this.#environment.releaseDeadReaders();
  }

  async close(): Promise<void> {
    await this.#environment.close();
  }

  #end(key: string, record: RunRecord, status: EndStatus, now: number): RunRecord {
    const endedAt = Math.max(now, record.startedAt);
    const ended: RunRecord = {
      ...this.#moved(key, record, endedAt + record.keep),
      status: status === 'lost' && record.stopRequested ? 'stopped' : status,
      endedAt,
    };
    this.#write(key, ended);
    this.#changed.add(key);
    return ended;
  }

  /** Moves a run in the index by which runs are dropped. */
  #moved(key: string, record: RunRecord, index: number): RunRecord {
    void this.#db.remove(['x', record.index, key]);
    void this.#db.put(['x', index, key], EMPTY);
    return { ...record, index };
  }

  #remove(key: string, record: RunRecord): void {
    void this.#db.remove(['r', key]);
    const pointer = ['i', hashOf(record.id)];
    if (this.#db.get(pointer)?.toString() === key) void this.#db.remove(pointer);
    this.#changed.add(key);
  }

  #removeChunks(key: string, limit: number): number {
    const keys = [...this.#db.getKeys({ start: ['c', key, 0], end: ['c', key, Infinity], limit })];
    for (const each of keys) void this.#db.remove(each as Key);
    return keys.length;
  }

  #write(key: string, record: RunRecord): void {
    void this.#db.put(['r', key], Buffer.from(JSON.stringify(record)));
  }

  #writeChange(keys: readonly string[]): void {
    const n = this.head + 1;
    const change: Change = { n, by: this.#handle, ...(keys.length <= MAX_CHANGED_KEYS && { keys }) };
    void this.#db.put(['w', n % CHANGES], Buffer.from(JSON.stringify(change)));
    const head = Buffer.alloc(8);
    head.writeDoubleLE(n);
    void this.#db.put(HEAD_KEY, head);
  }
}

/** Returns the key of a generation. It has a fixed size, because LMDB limits keys. */
export function keyOf({ id, generation }: RunKey): string {
  return hashOf(JSON.stringify([id, generation]));
}

/** Returns the state of a run as callers see it. A lease that has expired without an end is being checked: it has a ms left. */
export function stateOf(record: RunRecord, now: number): RunState {
  const { id, generation, status, startedAt, endedAt, chunks, bytes, leaseEnd, lease } = record;
  const state = { id, generation, status, startedAt, chunks, bytes };
  if (endedAt !== undefined) return { ...state, endedAt };
  return { ...state, leaseLeft: Math.min(Math.max(leaseEnd - now, 1), lease) };
}

/** Whether the time of an ended run is over. */
export function isDropped(record: RunRecord, now: number): boolean {
  return record.status !== 'running' && dropTimeOf(record) <= now;
}

function dropTimeOf({ endedAt, leaseEnd, keep }: RunRecord): number {
  return (endedAt ?? leaseEnd) + keep;
}

const EMPTY = Buffer.alloc(0);

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 22); // 132 bits
}

/**
 * Removes the database if the machine has restarted since it was opened: what was written without `sync` may be damaged, and LMDB has
 * no checksums. The producers of all running runs have ended with the machine.
 */
function discardAfterRestart(path: string): void {
  const boot = bootId();
  if (boot === undefined) return;
  const file = join(path, BOOT_FILE);
  const previous = readText(file);
  if (previous === boot) return;
  if (previous !== undefined) for (const name of DATABASE_FILES.lmdbRuns) rmSync(join(path, name), { force: true });
  writeFileSync(file, boot);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
