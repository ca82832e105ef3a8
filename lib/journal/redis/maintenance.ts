/*
 * What a log in Redis needs beside publishing and reading: trimming by age and count, and a look at the server's settings.
 * Knows how to ask; nothing of what a connection is.
 * Invariant: nothing in here can fail a publish or a read; what an ACL forbids is left alone.
 */
import type { Ask } from './log-reader.ts';
import { firstId, list, text } from './replies.ts';

const OFTEN = 1_000;
const SELDOM = 60_000;

/** Trims from time to time: publishers without this package do not, and nothing else trims by age. */
export class Trimmer {
  readonly #log: string;
  readonly #ask: Ask;
  readonly #maxLength: number;
  readonly #maxAge: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(log: string, ask: Ask, maxLength: number, maxAge: number) {
    this.#log = log;
    this.#ask = ask;
    this.#maxLength = maxLength;
    this.#maxAge = maxAge;
  }

  start(): void {
    if (this.#timer || (this.#maxLength === Infinity && this.#maxAge === Infinity)) return;
    const often = Math.min(Math.max(this.#maxAge / 16, OFTEN), SELDOM);
    const jitter = 0.75 + Math.random() / 2; // several processes trim the same log: not all at once
    this.#timer = setInterval(() => void this.trim().catch(() => {}), often * jitter).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * By count, then by age. The youngest of the entries that are too old stays: it is where those stand who have read everything
   * before the oldest that is young enough. Without it, the first event after a quiet hour would reset every client.
   */
  async trim(): Promise<void> {
    if (this.#maxLength !== Infinity) {
      await this.#ask([['XTRIM', this.#log, 'MAXLEN', '~', String(this.#maxLength)]]);
    }
    if (this.#maxAge === Infinity) return;
    const [time] = await this.#ask([['TIME']]); // Redis' clock makes the ids
    const oldest = Number(text(list(time)[0])) * 1000 - Math.floor(this.#maxAge);
    if (!(oldest > 0)) return;
    const [stale] = await this.#ask([['XREVRANGE', this.#log, String(oldest), '-', 'COUNT', '1']]);
    const floor = firstId(stale);
    if (floor) await this.#ask([['XTRIM', this.#log, 'MINID', '~', floor]]); // Redis ≥ 6.2; before that, by count alone
  }
}

/** Warns, once per journal, of settings with which Redis may forget the log. */
export async function warnOfSettings(log: string, ask: Ask): Promise<void> {
  const policy = await setting(ask, 'maxmemory-policy', /^maxmemory_policy:(.*?)\r?$/m, 'memory');
  if (policy?.startsWith('allkeys-')) {
    warn(
      'SSE_REDIS_EVICTION',
      `Redis may evict the whole log ${JSON.stringify(log)}: its maxmemory-policy is ${policy}. ` +
        'Set maxmemory-policy to noeviction, or every client is reset when memory runs short.',
    );
  }
  // The log itself does not expire; the keys beside it do, by which an entry that comes again is known.
  if (policy?.startsWith('volatile-')) {
    warn(
      'SSE_REDIS_EVICTION',
      `Redis may evict what it knows repeated entries of the log ${JSON.stringify(log)} by: its maxmemory-policy is ${policy}. ` +
        'Set maxmemory-policy to noeviction, or a retry may be stored twice when memory runs short.',
    );
  }
  const aof = await setting(ask, 'appendonly', /^aof_enabled:(.*?)\r?$/m, 'persistence');
  const save = await setting(ask, 'save');
  if ((aof === 'no' || aof === '0') && save === '') {
    warn(
      'SSE_REDIS_PERSISTENCE',
      `Redis keeps the log ${JSON.stringify(log)} in memory alone: a restart of Redis loses it and resets every client. ` +
        'Set appendonly to yes.',
    );
  }
}

/** A warning of the process, under the package's name. */
export function warn(code: string, message: string): void {
  process.emitWarning(message, { type: 'SseRouterWarning', code });
}

/** One setting: from CONFIG, failing that from INFO, failing that unknown: managed servers and ACLs forbid either. */
async function setting(ask: Ask, name: string, inInfo?: RegExp, section = ''): Promise<string | undefined> {
  try {
    const [reply] = await ask([['CONFIG', 'GET', name]]);
    const value = list(reply)[1];
    if (value !== undefined) return text(value);
  } catch {
    // Forbidden: not a fault of the log.
  }
  if (!inInfo) return undefined;
  try {
    const [reply] = await ask([['INFO', section]]);
    return inInfo.exec(text(reply))?.[1];
  } catch {
    return undefined;
  }
}
