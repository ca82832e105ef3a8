/*
 * Trimming by age and count at intervals, and a check of the server's settings.
 * Invariant: nothing in here makes an append or a read fail.
 */
import { PostgresError, type PostgresConnection } from './postgres-connection.ts';
import type { Names } from './schema.ts';
import { finite } from './sql-text.ts';

const SHORTEST_INTERVAL_MS = 1000;
const LONGEST_INTERVAL_MS = 60_000;
const PRODUCER_AGE_MS = 3_600_000; // longer than anything is sent again
const STEPS = 50; // that one round removes at most, so that a log with much to remove does not keep the connection

type Run = <T>(work: (connection: PostgresConnection) => Promise<T>) => Promise<T>;

/** Trims from time to time. Appends trim too, but not while nothing is appended. */
export class Trimmer {
  readonly #run: Run;
  readonly #names: () => Names;
  readonly #maxLength: number;
  readonly #maxAge: number;
  readonly #producerAge: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    run: Run,
    names: () => Names,
    limits: { readonly maxLength: number; readonly maxAge: number; readonly wait: number },
  ) {
    this.#run = run;
    this.#names = names;
    this.#maxLength = limits.maxLength;
    this.#maxAge = limits.maxAge;
    this.#producerAge = Math.max(PRODUCER_AGE_MS, Number.isFinite(limits.wait) ? limits.wait * 2 : 0);
  }

  start(): void {
    if (this.#timer) return;
    const interval = Math.min(Math.max(this.#maxAge / 16, SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS);
    const jitter = 0.75 + Math.random() / 2; // several processes trim the same log: not all at once
    this.#timer = setInterval(() => void this.trim().catch(() => {}), interval * jitter).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async trim(): Promise<void> {
    const { trim } = this.#names();
    const limits = [this.#maxLength, this.#maxAge, this.#producerAge].map(finite).join(', ');
    for (let step = 0; step < STEPS; step++) {
      // oxlint-disable-next-line no-await-in-loop -- short transactions, so that no append waits for long
      const more = await this.#run(async (connection) => {
        const rows = await connection.query(
          `SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT ${trim}(${limits})`,
        );
        return rows[0]?.[0] === 't';
      });
      if (!more) return;
    }
  }
}

/** Warns, once per journal, of settings with which Postgres may forget what it has confirmed. */
export async function warnOfSettings(connection: PostgresConnection, { log }: Names): Promise<void> {
  try {
    const [row] = await connection.query(`SELECT current_setting('fsync'), current_setting('full_page_writes')`);
    const off = ['fsync', 'full_page_writes'].filter((_, i) => row?.[i] === 'off');
    if (off.length > 0) {
      warn(
        'SSE_POSTGRES_PERSISTENCE',
        `Postgres may lose or damage the log ${log} when its machine goes down: ${off.join(' and ')} is off. Set it to on.`,
      );
    }
  } catch (error) {
    if (!(error instanceof PostgresError)) throw error; // some servers hide settings: that is no fault of the log
  }
}

/** A warning of the process, under the package's name. */
export function warn(code: string, message: string): void {
  process.emitWarning(message, { type: 'SseRouterWarning', code });
}
