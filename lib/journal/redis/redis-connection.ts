/*
 * One connection of this package to Redis. It never reconnects by itself, so a loss is always visible.
 * Invariant: every command settles: with the reply, with a RedisError that Redis returned, or with ConnectionLost.
 */

/** One argument of a command. */
export type Arg = string | Uint8Array;

/** The open connection of one client. client-adapters.ts creates it from node-redis or ioredis. */
export interface Driver {
  /** Sends one command. Bulk replies are Buffers. */
  send(args: readonly Arg[]): Promise<unknown>;
  /** Closes the socket at once. Must not throw. */
  destroy(): void;
}

/** Redis returned an error: the command was not executed. `code` is the first word of the error. */
export class RedisError extends Error {
  override readonly name = 'RedisError';
  readonly code: string;

  constructor(code: string, cause: Error) {
    super(cause.message, { cause });
    this.code = code;
  }
}

/** The connection was closed. Whether Redis executed the command is unknown. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

// The first word of an error is its code. Redis ≤ 6 wraps an error inside of a script:
// «ERR Error running script (…): … -OOM command not allowed …».
const ERROR_CODE = /^([A-Z][A-Z0-9]*)(?: |$)/;
const SCRIPT_ERROR_CODE = /^ERR Error (?:running script|compiling script).*? -([A-Z]{2,})\b/;

/** Errors of a server that is loading, failing over or moving slots. They mean «down», never «reset». */
const TRANSIENT_CODES: ReadonlySet<string> = new Set([
  'LOADING',
  'READONLY',
  'MOVED',
  'ASK',
  'TRYAGAIN',
  'CLUSTERDOWN',
  'MASTERDOWN',
  'BUSY',
  'UNBLOCKED',
  'NOREPLICAS',
  'NOSCRIPT', // after SCRIPT FLUSH: a new connection loads the script again
]);

/** Whether the error may end by itself. If so, the journal retries on a new connection. */
export function isTransient(error: unknown): boolean {
  return !(error instanceof RedisError) || TRANSIENT_CODES.has(error.code);
}

/**
 * A connection whose promises always settle. With `autoResendUnfulfilledCommands: false`, ioredis can leave commands in flight
 * unsettled forever when the socket closes (ioredis#2193). So this class keeps every command and rejects it itself.
 */
export class RedisConnection {
  readonly #driver: Driver;
  readonly #replyTimeoutMs: number;
  readonly #pending = new Set<(error: Error) => void>();
  readonly #closeListeners: ((error: Error) => void)[] = [];
  #closeError: Error | undefined;
  #lastReplyAt = 0;
  #timer: NodeJS.Timeout | undefined;

  /** If a command is pending and no reply arrives for `replyTimeoutMs`, the server counts as frozen. */
  constructor(driver: Driver, replyTimeoutMs: number) {
    this.#driver = driver;
    this.#replyTimeoutMs = replyTimeoutMs;
  }

  /** Sends one command. Redis executes commands in the order of the calls. */
  command(args: readonly Arg[]): Promise<unknown> {
    if (this.#closeError) return Promise.reject(this.#closeError);
    if (this.#pending.size === 0) this.#lastReplyAt = performance.now();
    this.#timer ??= this.#startTimer(this.#replyTimeoutMs);
    return new Promise((resolve, reject) => {
      this.#pending.add(reject);
      this.#driver.send(args).then(
        (reply) => {
          this.#onReply(reject);
          resolve(reply);
        },
        (error: Error) => {
          this.#onReply(reject);
          const redisError = redisErrorFrom(error);
          if (!redisError) this.destroy(error);
          reject(redisError ?? this.#closeError);
        },
      );
    });
  }

  /** Calls `listener` once when this connection is closed; at once if it already is. */
  onClosed(listener: (error: Error) => void): void {
    if (this.#closeError) listener(this.#closeError);
    else this.#closeListeners.push(listener);
  }

  /** Closes the socket and rejects all pending commands. */
  destroy(cause: Error): void {
    if (this.#closeError) return;
    const error = cause instanceof ConnectionLost ? cause : new ConnectionLost(cause.message, { cause });
    this.#closeError = error;
    clearTimeout(this.#timer);
    this.#driver.destroy();
    // First the listeners, which count what was in flight, then the commands: so entries are sent again in order.
    for (const listener of this.#closeListeners.splice(0)) listener(error);
    for (const reject of this.#pending) reject(error);
    this.#pending.clear();
  }

  #onReply(reject: (error: Error) => void): void {
    this.#pending.delete(reject);
    this.#lastReplyAt = performance.now();
  }

  #startTimer(ms: number): NodeJS.Timeout {
    const timer = setTimeout(() => {
      // If this process itself was paused, its replies wait in the socket. setImmediate lets Node read them before this check.
      setImmediate(() => this.#checkTimeout());
    }, ms);
    return timer.unref();
  }

  #checkTimeout(): void {
    if (this.#closeError) return;
    this.#timer = undefined;
    if (this.#pending.size === 0) return;
    const remaining = this.#lastReplyAt + this.#replyTimeoutMs - performance.now();
    if (remaining > 0) this.#timer = this.#startTimer(remaining);
    else this.destroy(new ConnectionLost(`no reply for ${this.#replyTimeoutMs} ms`));
  }
}

/** Returns the error that Redis returned, if this is one: the clients' own errors do not begin with a code. */
export function redisErrorFrom(error: Error): RedisError | undefined {
  const message = String(error?.message ?? error);
  const code = SCRIPT_ERROR_CODE.exec(message)?.[1] ?? ERROR_CODE.exec(message)?.[1];
  return code === undefined ? undefined : new RedisError(code, error);
}
