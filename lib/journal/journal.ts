/*
 * The contract of an ordered log of broadcasts: history, resume and the way between machines are this one thing.
 * Knows nothing of any other room, and nothing of events: an entry's body is bytes.
 * Invariant: an id names one entry for ever, and is good only while that entry is in the log.
 */

/** One broadcast in the log. Never changed once it is in. */
export interface Entry {
  /** Its position: printable ASCII, at most 128 characters. */
  readonly id: string;
  /** The channels that it is for; absent: for everyone. An empty list: for nobody. */
  readonly to?: readonly string[];
  /** The channels whose members do not get it, although they are in `to`. */
  readonly except?: readonly string[];
  /** The event as it goes on the wire, but without its `id` line: `event: …\ndata: …\n\n`, UTF-8. */
  readonly body: Uint8Array;
}

/** What is handed to {@link Journal.append}. */
export interface NewEntry {
  readonly to?: readonly string[];
  readonly except?: readonly string[];
  readonly body: Uint8Array;
  /** An application's own name for this entry: a second append with the same key stores nothing and resolves with the first one's id. */
  readonly key?: string;
}

/** The newest entries, oldest first; `floor` is the id of the position just before the first of them. */
export interface JournalWindow {
  readonly floor: string;
  readonly entries: readonly Entry[];
}

/** @deprecated Use {@link JournalWindow}. */
export type Window = JournalWindow;

/**
 * Why a position cannot be gone on from.
 * `lost`: it was in the log and has been trimmed; `unknown`: the log has never had it, or not in this life;
 * `diverged`: what came after it was delivered and is not in the log any more.
 */
export type ResetReason = 'lost' | 'unknown' | 'diverged';

/** What {@link Journal.read} found: the entries after a position, or why there is no such position. */
export type ReadResult =
  | { readonly ok: true; readonly entries: readonly Entry[] }
  | { readonly ok: false; readonly reason: 'lost' | 'unknown' };

/** What {@link Journal.follow} tells. All of it is called synchronously and must not throw. */
export interface Follower {
  /** The entries strictly after everything told so far, in the log's order, without a hole. Never an empty batch. */
  entries(batch: readonly Entry[]): void;
  /** The ids that the follower still knows, newest first, down to its floor: where a log that lost writes looks for the last common one. */
  known(): Iterable<string>;
  /** What was told after `id` is not in the log any more: go back to it. `id` is one of {@link Follower.known}. */
  rewind(id: string): void;
  /** Nothing that the follower knows is in the log any more: go on from this window. */
  restart(window: JournalWindow, reason: ResetReason): void;
  /** The engine is there, or it is not. Down is never a reason to reset anybody. */
  status?(up: boolean, error?: Error): void;
  /** Everything up to and including `id` has left the log; told by journals that notice it themselves. */
  trim?(id: string): void;
}

/**
 * One totally ordered log. In memory, in LMDB or in Redis: the hub does not know which.
 * `sse-router/conformance` is the suite that an implementation must pass.
 *
 * A journal belongs to one router, which opens it when it is made and closes it at the end of `close()`.
 */
export interface Journal {
  /** Makes it ready. Idempotent. An empty log gets a first position, so that there is one to hand out. */
  open(): Promise<void>;
  /**
   * Puts an entry at the end. Resolves with its id once it is in the log, at most once even when connections to the engine break.
   * @throws {SseError} `ERR_SSE_QUEUE_FULL`, `ERR_SSE_TIMEOUT` (outcome unknown), `ERR_SSE_TOO_LARGE`, `ERR_SSE_JOURNAL`, `ERR_SSE_CLOSED`.
   */
  append(entry: NewEntry): Promise<string>;
  /**
   * Entries that belong to a transaction of the application: `append` resolves once the entry is part of it, and the entry enters
   * the log if and only if the transaction commits. Absent where the engine has no such transactions.
   * @throws {SseTypeError} `ERR_SSE_OPTION` if `transaction` is none of the engine's.
   */
  within?(transaction: unknown): { append(entry: NewEntry): Promise<void> };
  /** The newest `max` entries at most (fewer where the log has fewer): warms the ring. */
  window(max: number): Promise<JournalWindow>;
  /**
   * At most `limit` entries after the position `after`, whose presence is verified in the same step.
   * `limit` 0 asks only that. The position before the first entry of a log that has never been trimmed is good, too.
   */
  read(after: string, limit: number): Promise<ReadResult>;
  /**
   * Tells what comes after `after`, for as long as the returned function is not called.
   * The position is verified first and again with every batch.
   */
  follow(after: string, follower: Follower): () => void;
  /** Negative: `a` is before `b`; 0: the same. Both have passed {@link Journal.isId}. An order, never a proof of existence. */
  compare(a: string, b: string): number;
  /** Whether a text has the form of an id of this journal: asked before anything that a client sent reaches the engine. */
  isId(text: string): boolean;
  /** Lets go of everything. Followers are told nothing more; what waits for `append` is rejected. Idempotent. */
  close(): Promise<void>;
}
