/*
 * One connection of our own to Redis, that dies rather than hides a loss.
 * Knows a driver (one client's connection, see client.ts) and timers; nothing of journals.
 * Invariant: every command settles: with the reply, with a Refusal that Redis answered, or with LinkLost.
 */

/** What one word of a command may be. */
export type Arg = string | Uint8Array;

/** One client's connection, connected: what client.ts makes of node-redis and ioredis. */
export interface Driver {
  /** Sends one command. Bulk replies are Buffers. */
  send(args: readonly Arg[]): Promise<unknown>;
  /** Closes the socket at once. Must not throw. */
  destroy(): void;
}

/** Redis answered with an error: the command was not carried out. `code` is the answer's first word. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: string;

  constructor(code: string, cause: Error) {
    super(cause.message, { cause });
    this.code = code;
  }
}

/** The connection is gone, and what became of the command is not known. */
export class LinkLost extends Error {
  override readonly name = 'LinkLost';
}

// An answer's first word is its code. Redis ≤ 6 wraps what a script was refused: «ERR Error running script (…): … -OOM command not allowed …».
const CODE = /^([A-Z][A-Z0-9]*)(?: |$)/;
const IN_SCRIPT = /^ERR Error (?:running script|compiling script).*? -([A-Z]{2,})\b/;

/** Refusals that pass: the server is loading, failing over or moving slots. They mean «down», never «reset». */
const PASSING: ReadonlySet<string> = new Set([
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

/** Whether it may go away by itself: then it is waited out on a new connection. */
export function passes(error: unknown): boolean {
  return !(error instanceof Refusal) || PASSING.has(error.code);
}

/**
 * A connection whose promises always settle. ioredis with `autoResendUnfulfilledCommands: false` can leave what was in flight
 * for ever unsettled when the socket closes (ioredis#2193), so every command is held here and rejected by us.
 */
export class Link {
  readonly #driver: Driver;
  readonly #patience: number;
  readonly #waiting = new Set<(error: Error) => void>();
  readonly #mourners: ((error: Error) => void)[] = [];
  #dead: Error | undefined;
  #heard = 0;
  #watch: NodeJS.Timeout | undefined;

  /** `patience`: milliseconds without any reply, while one is due, after which the server counts as frozen. */
  constructor(driver: Driver, patience: number) {
    this.#driver = driver;
    this.#patience = patience;
  }

  /** Sends one command; commands are carried out in the order of the calls. */
  command(args: readonly Arg[]): Promise<unknown> {
    if (this.#dead) return Promise.reject(this.#dead);
    if (this.#waiting.size === 0) this.#heard = performance.now();
    this.#watch ??= this.#watchIn(this.#patience);
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject);
      this.#driver.send(args).then(
        (reply) => {
          this.#settled(reject);
          resolve(reply);
        },
        (error: Error) => {
          this.#settled(reject);
          const refusal = refusalOf(error);
          if (!refusal) this.destroy(error);
          reject(refusal ?? this.#dead);
        },
      );
    });
  }

  /** Calls back once, when this connection is gone; at once if it already is. */
  onGone(mourner: (error: Error) => void): void {
    if (this.#dead) mourner(this.#dead);
    else this.#mourners.push(mourner);
  }

  /** Closes the socket and rejects what waits for a reply. */
  destroy(why: Error): void {
    if (this.#dead) return;
    const lost = why instanceof LinkLost ? why : new LinkLost(why.message, { cause: why });
    this.#dead = lost;
    clearTimeout(this.#watch);
    this.#driver.destroy();
    // First those who keep count of what was in flight, then the commands: so a re-send is in order.
    for (const mourner of this.#mourners.splice(0)) mourner(lost);
    for (const reject of this.#waiting) reject(lost);
    this.#waiting.clear();
  }

  #settled(reject: (error: Error) => void): void {
    this.#waiting.delete(reject);
    this.#heard = performance.now();
  }

  #watchIn(ms: number): NodeJS.Timeout {
    const watch = setTimeout(() => {
      // A process that was itself paused finds its replies in the socket: they are read before this look.
      setImmediate(() => this.#look());
    }, ms);
    return watch.unref();
  }

  #look(): void {
    if (this.#dead) return;
    this.#watch = undefined;
    if (this.#waiting.size === 0) return;
    const left = this.#heard + this.#patience - performance.now();
    if (left > 0) this.#watch = this.#watchIn(left);
    else this.destroy(new LinkLost(`no answer for ${this.#patience} ms`));
  }
}

/** What Redis answered, if this is an answer at all: the clients' own errors do not begin with a code. */
export function refusalOf(error: Error): Refusal | undefined {
  const message = String(error?.message ?? error);
  const code = IN_SCRIPT.exec(message)?.[1] ?? CODE.exec(message)?.[1];
  return code === undefined ? undefined : new Refusal(code, error);
}
