/*
 * The state of a run and the entries of its log, as Redis returns them.
 * Invariant: the id of an entry is `<number of its last chunk>-<bytes of the log>`. The number of its first chunk follows from the
 * number of its chunks, so a reader notices an entry that does not continue the log.
 */
import { toList, toText } from '../../../journal/redis/replies.ts';
import type { RunKey, RunState, RunStatus } from '../../run-store.ts';
import { MAX_ID_PART } from './run-scripts.ts';

/** What a script returns about one generation. */
export interface RunRecord {
  readonly status: RunStatus;
  readonly startedAt: number;
  readonly endedAt: number | undefined;
  readonly chunks: number;
  readonly bytes: number;
  /** Milliseconds until the lease expires; 0 or less if it has expired. */
  readonly left: number;
  readonly lease: number;
  /** When the lease expires, as the script compares it. */
  readonly expires: string;
  /** The wake stream of the producing process: `<bucket>:<name>`. */
  readonly wake: string;
}

/** An entry with chunks. */
export interface ChunkEntry {
  /** The number of its first chunk. */
  readonly first: number;
  readonly last: number;
  /** The size of the log up to this entry. */
  readonly bytes: number;
  readonly chunks: readonly Uint8Array[];
}

/** Parses what `record` returns in run-scripts.ts; `undefined` if the generation is unknown. */
export function parseRecord(reply: unknown): RunRecord | undefined {
  const list = toList(reply).map(toText);
  if (list.length === 0) return undefined;
  const [status, startedAt, endedAt, chunks, bytes, left, lease, expires = '', wake = ''] = list;
  return {
    status: status as RunStatus,
    startedAt: Number(startedAt),
    endedAt: endedAt === '' ? undefined : Number(endedAt),
    chunks: Number(chunks),
    bytes: Number(bytes),
    left: Number(left),
    lease: Number(lease),
    expires,
    wake,
  };
}

/** Converts a record to the state of the contract. `leaseLeft` is for a running run. */
export function toState({ id, generation }: RunKey, record: RunRecord, leaseLeft: number = record.left): RunState {
  const { status, startedAt, endedAt, chunks, bytes } = record;
  const state = { id, generation, status, startedAt, chunks, bytes };
  return status === 'running' ? { ...state, leaseLeft } : { ...state, endedAt: endedAt! };
}

/**
 * Encodes chunks as the one field of an entry: its name lists their sizes, and its value is their bytes. An entry of one field has
 * the fewest arguments, and the sizes need no format of their own.
 */
export function encodeChunks(chunks: readonly Uint8Array[]): readonly [sizes: string, data: Buffer] {
  if (chunks.length === 1) {
    const [chunk] = chunks as [Uint8Array];
    const data = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    return [String(data.length), data];
  }
  let sizes = '';
  for (const { byteLength } of chunks) sizes += sizes === '' ? byteLength : `,${byteLength}`;
  return [sizes, Buffer.concat(chunks)];
}

/** Parses one entry of a log. `undefined`: the entry of the beginning, which has no chunk. */
export function parseEntry(run: RunKey, entry: unknown): ChunkEntry | { readonly end: RunState } | undefined {
  const [idReply, fieldsReply] = toList(entry);
  const [last = '', bytes = ''] = toText(idReply).split('-');
  const fields = toList(fieldsReply);
  if (last === '0') return undefined;
  if (last === MAX_ID_PART) return { end: parseEnd(run, fields) };
  const data = fields[1] as Uint8Array;
  const chunks: Uint8Array[] = [];
  let from = 0;
  for (const size of toText(fields[0]).split(',')) chunks.push(data.subarray(from, (from += Number(size))));
  return { first: Number(last) - chunks.length + 1, last: Number(last), bytes: Number(bytes), chunks };
}

function parseEnd({ id, generation }: RunKey, fields: readonly unknown[]): RunState {
  const values = new Map<string, string>();
  for (let i = 0; i < fields.length; i += 2) values.set(toText(fields[i]), toText(fields[i + 1]));
  return {
    id,
    generation,
    status: values.get('status') as RunStatus,
    startedAt: Number(values.get('startedAt')),
    endedAt: Number(values.get('endedAt')),
    chunks: Number(values.get('chunks')),
    bytes: Number(values.get('bytes')),
  };
}

/** Returns the id after which the entries with chunks after the number `after` begin. */
export function cursorAfter(after: number): string {
  return `${after}-${MAX_ID_PART}`;
}
