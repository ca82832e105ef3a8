/*
 * The contract of a journal: one ordered log of broadcasts. History, resumption and delivery between machines all use this log.
 * Invariant: an id names one entry forever. It is a valid position only while that entry is in the log.
 * Invariant: a journal does not interpret events; the body of an entry is bytes.
 */

/** One broadcast in the log. An entry in the log never changes. */
export interface Entry {
  /** The position of the entry: printable ASCII, at most 128 characters. */
  readonly id: string;
  /** The channels that receive the entry. Absent: every connection receives it. An empty list: no connection does. */
  readonly to?: readonly string[];
  /** The channels whose members do not receive the entry, although they are in `to`. */
  readonly except?: readonly string[];
  /** The event as it is sent, without its `id` line: `event: …\ndata: …\n\n`, UTF-8. */
  readonly body: Uint8Array;
}

/** The argument of {@link Journal.append}. */
export interface NewEntry {
  readonly to?: readonly string[];
  readonly except?: readonly string[];
  readonly body: Uint8Array;
  /** An idempotency key of the application. A second append with the same key stores nothing and resolves with the first id. */
  readonly key?: string;
}

/** The newest entries, oldest first. `floor` is the id of the position just before the first of them. */
export interface JournalWindow {
  readonly floor: string;
  readonly entries: readonly Entry[];
}

/** @deprecated Use {@link JournalWindow}. */
export type Window = JournalWindow;

/**
 * Why delivery cannot continue from a position.
 * `lost`: the entry was in the log and has been trimmed. `unknown`: the log has never contained the id, or was recreated since.
 * `diverged`: entries after the position were delivered and are no longer in the log.
 */
export type ResetReason = 'lost' | 'unknown' | 'diverged';

/** The result of {@link Journal.read}: the entries after a position, or why the position is not valid. */
export type ReadResult =
  | { readonly ok: true; readonly entries: readonly Entry[] }
  | { readonly ok: false; readonly reason: 'lost' | 'unknown' };

/** What {@link Journal.follow} calls. The journal calls every method synchronously; none may throw. */
export interface Follower {
  /** Receives the entries strictly after all earlier ones, in the order of the log, without a gap. A batch is never empty. */
  entries(batch: readonly Entry[]): void;
  /**
   * Returns the ids that the follower still has, newest first, down to its floor. A journal whose log lost writes searches them
   * for the newest entry that is still in the log.
   */
  known(): Iterable<string>;
  /** Goes back to `id`: the entries delivered after it are no longer in the log. `id` is one of {@link Follower.known}. */
  rewind(id: string): void;
  /** Continues from this window: no id that the follower has is still in the log. */
  restart(window: JournalWindow, reason: ResetReason): void;
  /**
   * Receives whether the engine is available. An engine that is down is never a reason for a reset. `error` is why it is down, or, of
   * an available engine, why an entry of the log reaches no connection.
   */
  status?(up: boolean, error?: Error): void;
  /** Receives that everything up to and including `id` has been trimmed. Only journals that notice it themselves call this. */
  trim?(id: string): void;
}

/**
 * One totally ordered log, in memory, in LMDB or in Redis. The hub uses all of them in the same way.
 * `sse-router/conformance` is the suite that an implementation must pass.
 *
 * A journal belongs to one router. The router opens it when it is created and closes it at the end of `close()`. Until then,
 * `sse()` throws if another router is given the same journal, or another journal with the same LMDB path.
 */
export interface Journal {
  /** Opens the log. Idempotent. An empty log gets a first position, so that clients have a position to resume from. */
  open(): Promise<void>;
  /**
   * Adds an entry at the end. Resolves with the entry's id when the entry is in the log. An entry is stored at most once, even if
   * connections to the engine break.
   * @throws {SseError} `ERR_SSE_QUEUE_FULL`, `ERR_SSE_TIMEOUT` (outcome unknown), `ERR_SSE_TOO_LARGE`, `ERR_SSE_JOURNAL`, `ERR_SSE_CLOSED`.
   */
  append(entry: NewEntry): Promise<string>;
  /**
   * Entries that belong to a transaction of the application: `append` resolves once the entry is part of it, and the entry enters
   * the log if and only if the transaction commits. Absent where the engine has no such transactions.
   * @throws {SseTypeError} `ERR_SSE_OPTION` if `transaction` is none of the engine's.
   */
  within?(transaction: unknown): { append(entry: NewEntry): Promise<void> };
  /** Returns the newest `max` entries, or all if the log has fewer. The router fills its ring with them. */
  window(max: number): Promise<JournalWindow>;
  /**
   * Returns at most `limit` entries after the position `after`, and verifies in the same step that the position is in the log.
   * `limit` 0 only verifies. The position before the first entry is valid too, if the log has never been trimmed.
   */
  read(after: string, limit: number): Promise<ReadResult>;
  /**
   * Delivers the entries after `after` until the returned function is called.
   * The journal verifies the position first, and again with every batch.
   */
  follow(after: string, follower: Follower): () => void;
  /**
   * Orders two ids: negative if `a` is before `b`, 0 if they are the same. Both must pass {@link Journal.isId}.
   * The order does not prove that an entry exists.
   */
  compare(a: string, b: string): number;
  /** Whether a text has the form of an id of this journal. Checked before any text of a client reaches the engine. */
  isId(text: string): boolean;
  /**
   * Releases all resources. Followers receive nothing more. An append that was called before is stored, if the engine answers within
   * a bounded time; otherwise it is rejected with `ERR_SSE_TIMEOUT`, before this resolves. Idempotent.
   */
  close(): Promise<void>;
}
