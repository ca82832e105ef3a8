/*
 * The keys of runs in Redis.
 * Invariant: all keys of one run have one hash tag, so they are in one slot of a cluster. A run's bucket follows from its id alone.
 */
import type { RunKey } from '../../run-store.ts';

/** The number of hash tags, over which the runs are spread. */
export const BUCKETS = 16;

/** The keys of one generation. */
export interface KeysOfRun {
  readonly bucket: number;
  /** A string: the newest generation of the run id. */
  readonly newest: string;
  /** A hash: the state of the generation and its lease. */
  readonly meta: string;
  /** A stream: the chunks of the generation and its end. */
  readonly log: string;
}

/** Builds the keys with one prefix. */
export class RunKeys {
  readonly #tags: readonly string[];

  /** `prefix`: see {@link isKeyPrefix}. If it has a `{hash tag}`, all runs are in the slot of this tag. */
  constructor(prefix: string) {
    const hasTag = prefix.includes('{');
    this.#tags = Array.from({ length: BUCKETS }, (_, n) => (hasTag ? `${prefix}:${n}` : `{${prefix}:${n}}`));
  }

  of({ id, generation }: RunKey): KeysOfRun {
    const bucket = bucketOf(id);
    const tag = this.#tags[bucket]!;
    // A generation has no colon, so `id:generation` is unambiguous.
    return {
      bucket,
      newest: this.newest(id),
      meta: `${tag}:run:${id}:${generation}`,
      log: `${tag}:log:${id}:${generation}`,
    };
  }

  newest(id: string): string {
    return `${this.#tags[bucketOf(id)]}:newest:${id}`;
  }

  /** Returns the key of a wake stream. */
  wake(bucket: number, name: string): string {
    return `${this.#tags[bucket]}:wake:${name}`;
  }

  /** Returns the key that notes since when this Redis has been in use. */
  uptime(): string {
    return `${this.#tags[0]}:uptime`;
  }

  /** Returns one key of each bucket. No data is stored there. */
  probes(): string[] {
    return this.#tags.map((tag) => `${tag}:probe`);
  }
}

/** Returns the bucket of a run id: FNV-1a over its UTF-16 units. Every process must return the same, in every version. */
export function bucketOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  return ((hash ^ (hash >>> 16)) >>> 0) % BUCKETS;
}

/** Whether a text can be the prefix of keys: it has no braces, or one `{hash tag}`. */
export function isKeyPrefix(prefix: string): boolean {
  return /^[^{}]+$/.test(prefix) || /^[^{}]*\{[^{}]+\}[^{}]*$/.test(prefix);
}
