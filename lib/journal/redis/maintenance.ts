/*
 * Maintenance of a log in Redis: trimming by age and by count, and warnings about the server's settings.
 * Invariant: no failure in this file makes a publish or a read fail. A command that an ACL forbids is skipped.
 */
import type { Query } from './log-reader.ts';
import { firstId, toList, toText } from './replies.ts';

const MIN_TRIM_INTERVAL_MS = 1_000;
const MAX_TRIM_INTERVAL_MS = 60_000;
const MAX_OBSERVED_IDS = 64;

/** An id that was the newest of the log at a time of this process. */
interface ObservedId {
  readonly id: string;
  readonly at: number;
}

/**
 * Trims at intervals: publishers without this package do not trim, and nothing else trims by age. Reports where the log begins,
 * whatever has trimmed it.
 */
export class Trimmer {
  readonly #log: string;
  readonly #query: Query;
  readonly #maxLength: number;
  readonly #maxAge: number;
  readonly #onFirst: (id: string) => void;
  #first: string | undefined;
  #observed: ObservedId[] = []; // oldest first
  #timer: NodeJS.Timeout | undefined;

  /** `onFirst` is called with the id of the oldest entry, after it has changed. */
  constructor(log: string, query: Query, maxLength: number, maxAge: number, onFirst: (id: string) => void) {
    this.#log = log;
    this.#query = query;
    this.#maxLength = maxLength;
    this.#maxAge = maxAge;
    this.#onFirst = onFirst;
  }

  start(): void {
    if (this.#timer) return;
    const interval = Math.min(Math.max(this.#maxAge / 16, MIN_TRIM_INTERVAL_MS), MAX_TRIM_INTERVAL_MS);
    const jitter = 0.75 + Math.random() / 2; // the processes that share a log do not all trim at the same time
    this.#timer = setInterval(() => void this.trim().catch(() => {}), interval * jitter).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Trims by count, then by age. Keeps the newest of the expired entries: it is the position of every client that has received all
   * entries before the oldest one that has not expired. Without it, the first event after a quiet hour would reset every client.
   */
  async trim(): Promise<void> {
    if (this.#maxLength !== Infinity) {
      await this.#query([['XTRIM', this.#log, 'MAXLEN', '~', String(this.#maxLength)]]);
    }
    if (this.#maxAge !== Infinity) await this.#trimByAge().catch(() => {}); // Redis before 6.2 trims by count only
    const [oldest] = await this.#query([['XRANGE', this.#log, '-', '+', 'COUNT', '1']]);
    const first = firstId(oldest);
    if (first === undefined || first === this.#first) return;
    this.#first = first;
    this.#onFirst(first);
  }

  async #trimByAge(): Promise<void> {
    const [time, newest] = await this.#query([['TIME'], ['XREVRANGE', this.#log, '+', '-', 'COUNT', '1']]);
    const now = Number(toText(toList(time)[0])) * 1000; // the ids come from Redis' clock
    const expiry = now - Math.floor(this.#maxAge);
    if (!(expiry > 0)) return;
    const [expired] = await this.#query([['XREVRANGE', this.#log, String(expiry), '-', 'COUNT', '1']]);
    const floor = this.#observedFloor(firstId(newest), now) ?? firstId(expired);
    if (floor) await this.#query([['XTRIM', this.#log, 'MINID', '~', floor]]); // Redis ≥ 6.2
  }

  /**
   * Returns the newest id that is known to have expired if the ids are ahead of Redis' clock. After the clock was wrong and set
   * back, Redis continues from the last id, so no id has a time that means anything until the clock has caught up.
   */
  #observedFloor(newest: string | undefined, now: number): string | undefined {
    if (newest === undefined || Number(newest.split('-', 1)[0]) < now + 1000 /* TIME is cut to seconds */) {
      this.#observed = [];
      return undefined;
    }
    const at = performance.now();
    const last = this.#observed.at(-1);
    if (last === undefined || at - last.at >= this.#maxAge / MAX_OBSERVED_IDS) this.#observed.push({ id: newest, at });
    const kept = this.#observed.findLastIndex((one) => at - one.at >= this.#maxAge);
    if (kept === -1) return undefined;
    this.#observed.splice(0, kept);
    return this.#observed[0]!.id;
  }
}

/** Warns about settings with which Redis may lose the log. */
export async function warnAboutSettings(log: string, query: Query): Promise<void> {
  const { policy, isOnlyInMemory } = await readSettings(query);
  if (policy?.startsWith('allkeys-')) {
    warn(
      'SSE_REDIS_EVICTION',
      `Redis may evict the whole log ${JSON.stringify(log)}: its maxmemory-policy is ${policy}. ` +
        'Set maxmemory-policy to noeviction; otherwise every client is reset when memory is short.',
    );
  }
  // The log itself does not expire. The keys beside it do; they detect an entry that is sent again.
  if (policy?.startsWith('volatile-')) {
    warn(
      'SSE_REDIS_EVICTION',
      `Redis may evict the keys that detect repeated entries of the log ${JSON.stringify(log)}: ` +
        `its maxmemory-policy is ${policy}. ` +
        'Set maxmemory-policy to noeviction; otherwise a retry may be stored twice when memory is short.',
    );
  }
  if (isOnlyInMemory) {
    warn(
      'SSE_REDIS_PERSISTENCE',
      `Redis keeps the log ${JSON.stringify(log)} only in memory: a restart of Redis loses it and resets every client. ` +
        'Set appendonly to yes.',
    );
  }
}

/** Emits a warning of the process, with the package's warning type. */
export function warn(code: string, message: string): void {
  process.emitWarning(message, { type: 'SseRouterWarning', code });
}

/** Reads the settings with which Redis may lose data. */
export async function readSettings(
  query: Query,
): Promise<{ readonly policy: string | undefined; readonly isOnlyInMemory: boolean }> {
  const policy = await readSetting(query, 'maxmemory-policy', /^maxmemory_policy:(.*?)\r?$/m, 'memory');
  const aof = await readSetting(query, 'appendonly', /^aof_enabled:(.*?)\r?$/m, 'persistence');
  const save = await readSetting(query, 'save');
  return { policy, isOnlyInMemory: (aof === 'no' || aof === '0') && save === '' };
}

/** Returns one setting: from CONFIG, else from INFO, else undefined. Managed servers and ACLs forbid either command. */
async function readSetting(query: Query, name: string, inInfo?: RegExp, section = ''): Promise<string | undefined> {
  try {
    const [reply] = await query([['CONFIG', 'GET', name]]);
    const value = toList(reply)[1];
    if (value !== undefined) return toText(value);
  } catch {
    // CONFIG is forbidden, which is not an error of the log.
  }
  if (!inInfo) return undefined;
  try {
    const [reply] = await query([['INFO', section]]);
    return inInfo.exec(toText(reply))?.[1];
  } catch {
    return undefined;
  }
}
