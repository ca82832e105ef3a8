/*
 * The appends that wait for an engine behind a connection, as the producers of the Redis and the Postgres journal use them: the
 * queue, the limits, the deadlines, and the errors of a timeout.
 * Invariant: each append is settled once: with its id, with an error of the producer, or with `ERR_SSE_TIMEOUT` after `wait`.
 * Invariant: an unsettled append is in the queue, or the producer has taken it.
 * Invariant: replies that have arrived are read before appends expire. After a pause of this process, they wait in the socket.
 * Invariant: an append that expires in the queue is never sent.
 * Invariant: the error of a timeout states whether the entry may be in the log.
 * Invariant: an append that was added before the close is sent and settled as any other, for as long as the close waits.
 * Invariant: a settled append keeps no entry in memory, although the queue or the producer may still refer to the append.
 */
import { SseError } from '../errors.ts';
import { MAX_TIMER_MS } from '../validation/validate.ts';
import { Deque } from './deque.ts';

/** The limits of pending appends: options of a journal. */
export interface PendingLimits {
  readonly wait: number;
  readonly maxPending: number;
  readonly maxPendingBytes: number;
}

/** One append. `E`: an entry as the engine stores it. Only {@link PendingAppends} settles it. */
export interface PendingAppend<E> {
  /** `undefined` when settled. */
  entry: E | undefined;
  readonly size: number;
  readonly deadline: number;
  readonly resolve: (id: string) => void;
  readonly reject: (error: Error) => void;
  /** Whether the entry may be in the log: it was sent, and the engine has not reported that it was not stored. Set by the producer. */
  maybeStored: boolean;
  settled: boolean;
}

const CLOSE_TIMEOUT_MS = 1000; // for appends that were called before the journal was closed

/** The pending appends of one producer, which takes them from the queue, sends them, and reports their outcomes. */
export class PendingAppends<E> {
  readonly #engine: string;
  readonly #limits: PendingLimits;
  readonly #downReason: () => Error | undefined;
  readonly #unsettled = new Set<PendingAppend<E>>();
  readonly #queue = new Deque<PendingAppend<E>>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | undefined;

  /** `engine`: its name in messages. `downReason` returns why there is no connection. */
  constructor(engine: string, limits: PendingLimits, downReason: () => Error | undefined) {
    this.#engine = engine;
    this.#limits = limits;
    this.#downReason = downReason;
  }

  /**
   * Adds an entry at the end of the queue. The promise settles when the append does.
   * @throws {SseError} `ERR_SSE_QUEUE_FULL` at once.
   */
  add(entry: E, size: number): Promise<string> {
    const { maxPending, maxPendingBytes, wait } = this.#limits;
    if (this.#unsettled.size >= maxPending || this.#bytes + size > maxPendingBytes) {
      throw new SseError(
        'ERR_SSE_QUEUE_FULL',
        `append: pending entries must be at most ${maxPending} (maxPending) and ${maxPendingBytes} bytes (maxPendingBytes); ` +
          `${this.#unsettled.size} entries of ${this.#bytes} bytes already wait for ${this.#engine}${this.#reasonText()}. ` +
          'The entry was not stored. Append less often, or await earlier appends first.',
        { cause: this.#downReason() },
      );
    }
    // The producer sends after this call, and not within the function below: an error refers to the functions of its stack, and that
    // function refers to the entry.
    return new Promise((resolve, reject) => {
      const deadline = performance.now() + wait;
      const append = { entry, size, deadline, resolve, reject, maybeStored: false, settled: false };
      this.#unsettled.add(append);
      this.#bytes += size;
      this.#queue.push(append);
      this.#timer ??= this.#startTimer(wait);
    });
  }

  /**
   * Takes the first append from the queue: the producer sends it now. Rejects those before it that have expired.
   * @returns `undefined` if the queue is empty, or if the entry has more than `maxBytes`; it then stays in the queue
   */
  take(maxBytes = Infinity): PendingAppend<E> | undefined {
    if (this.#queue.length === 0) return undefined;
    const now = performance.now();
    do {
      const append = this.#queue.at(0)!;
      // After a pause of this process, replies arrive before entries expire. What has expired by then must not be sent.
      if (append.deadline <= now) this.#timeOut(append);
      if (!append.settled && append.size > maxBytes) return undefined;
      this.#queue.shift();
      if (!append.settled) return append;
    } while (this.#queue.length > 0);
    return undefined;
  }

  /** Puts taken appends at the front of the queue, in their order. Settled ones are never taken again. */
  requeue(appends: readonly PendingAppend<E>[]): void {
    this.#queue.prepend(appends);
  }

  /** The entry is in the log with this id. */
  resolve(append: PendingAppend<E>, id: string): void {
    this.#settle(append, undefined, id);
  }

  /** The engine has refused the entry. */
  reject(append: PendingAppend<E>, error: Error): void {
    this.#settle(append, error);
  }

  /**
   * Waits until every append is settled, at most a second: the producer still sends what is in the queue. Then rejects the others.
   * `when`: the end of the wait, for the errors of these. The caller adds no append after this call.
   */
  async close(when: string): Promise<void> {
    if (this.#unsettled.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
        this.#onEmpty = () => resolve(clearTimeout(timer));
      });
    }
    clearTimeout(this.#timer);
    for (const append of this.#unsettled) this.#settle(append, this.#timeoutError(when, append.maybeStored));
  }

  #settle(append: PendingAppend<E>, error: Error | undefined, id = ''): void {
    if (append.settled) return; // already rejected with «the outcome is unknown»
    append.settled = true;
    append.entry = undefined;
    this.#unsettled.delete(append);
    this.#bytes -= append.size;
    if (error) append.reject(error);
    else append.resolve(id);
    if (this.#unsettled.size === 0) this.#onEmpty?.();
  }

  #startTimer(ms: number): NodeJS.Timeout {
    // After a pause of this process, replies may wait in the socket: they are read before entries expire.
    return setTimeout(() => setImmediate(() => this.#expire()), Math.min(Math.max(ms, 1), MAX_TIMER_MS)).unref();
  }

  /** Rejects expired appends. One timer is enough: all wait equally long, so #unsettled is in the order of the deadlines. */
  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const append of this.#unsettled) {
      if (append.deadline > now) {
        this.#timer = this.#startTimer(append.deadline - now);
        break;
      }
      this.#timeOut(append);
    }
    // Remove settled appends even without a connection: until one is open, no other code removes them.
    while (this.#queue.length > 0 && this.#queue.at(0)!.settled) this.#queue.shift();
  }

  #timeOut(append: PendingAppend<E>): void {
    if (!append.settled) this.#settle(append, this.#timeoutError(`within ${this.#limits.wait} ms`, append.maybeStored));
  }

  #timeoutError(when: string, maybeStored: boolean): SseError {
    const outcome = maybeStored
      ? 'The outcome is unknown, the entry may be in the log. With a key, it is safe to append it again.'
      : 'The entry was not stored. Append it again.';
    const message = `append: no reply from ${this.#engine} ${when}${this.#reasonText()}. ${outcome}`;
    return new SseError('ERR_SSE_TIMEOUT', message, { cause: this.#downReason() });
  }

  #reasonText(): string {
    const reason = this.#downReason();
    return reason ? ` (${reason.message})` : '';
  }
}
