/*
 * A simulated engine, and the journal through which a process uses it. Each of their steps happens when the program requests it.
 * Invariant: an id names one entry for ever. The journal keeps its contract in every program.
 */

import type {
  Entry,
  Follower,
  Journal,
  NewEntry,
  ReadResult,
  ResetReason,
  JournalWindow,
} from '../../lib/journal/journal.ts';

const ID_FORMAT = /^(\d+)-([0-9a-z]+)$/;

/** Compares ids by number: '9-x' is before '10-a'. Never returns 0 for two different ids. */
export function compare(a: string, b: string): number {
  const order = Number.parseInt(a, 10) - Number.parseInt(b, 10);
  if (order !== 0) return order;
  return a === b ? 0 : a < b ? -1 : 1;
}

/** The log that all processes share. */
export class Engine {
  /** The entries since the last flush that were not rolled back, including the trimmed ones. */
  history: Entry[] = [];
  /** The number of entries at the beginning of `history` that have been trimmed. */
  trimmed = 0;
  /** The position before the first entry. */
  origin: string;
  #number = 7; // so that ids soon go from 9 to 10, which sort differently as strings
  #salt = 0;
  #lost = new Map<string, string>(); // each id that is no longer in the history → the head or origin directly after its loss

  constructor() {
    this.origin = this.#nextId();
  }

  get head(): string {
    return this.history.at(-1)?.id ?? this.origin;
  }

  append(entry: NewEntry): string {
    const id = this.#nextId();
    this.history.push({
      id,
      body: entry.body,
      ...(entry.to && { to: entry.to }),
      ...(entry.except && { except: entry.except }),
    });
    return id;
  }

  /** Removes the oldest entries. */
  trim(count: number): void {
    this.trimmed = Math.min(this.history.length, this.trimmed + count);
  }

  /** Loses the newest entries. Later ids continue from the new head: below some lost ids, and with numbers that were used before. */
  rollback(count: number): boolean {
    const keep = Math.max(this.trimmed, this.history.length - count);
    const removed = this.history.splice(keep);
    for (const { id } of removed) this.#lost.set(id, this.head);
    if (removed.length > 0) this.#number = Number.parseInt(this.head, 10);
    return removed.length > 0;
  }

  /** Loses all entries, and starts again with lower numbers. */
  flush(): void {
    const removed = [this.origin, ...this.history.map(({ id }) => id)];
    this.history = [];
    this.trimmed = 0;
    this.#number = Math.max(0, this.#number - 4);
    this.origin = this.#nextId();
    for (const id of removed) this.#lost.set(id, this.origin);
  }

  /**
   * Returns why a client cannot continue after a position; `undefined` if it can. A real engine can only determine whether the id is in
   * the log, and whether it is older than the oldest entry.
   */
  refusalOf(id: string): 'lost' | 'unknown' | undefined {
    if (id === this.head) return undefined;
    const index = this.indexOf(id);
    if (index !== undefined && index >= this.trimmed - (this.trimmed === 0 ? 1 : 0)) return undefined;
    return compare(id, this.history[this.trimmed]?.id ?? this.head) < 0 ? 'lost' : 'unknown';
  }

  after(id: string, limit: number): Entry[] {
    const from = Math.max(this.trimmed, (this.indexOf(id) as number) + 1);
    return this.history.slice(from, from + limit);
  }

  window(): JournalWindow {
    const entries = this.history.slice(this.trimmed);
    return { floor: this.history[this.trimmed - 1]?.id ?? this.origin, entries };
  }

  /** Returns the index of an id in the history: -1 for the position before it, `undefined` for an id that is not in it. */
  indexOf(id: string): number | undefined {
    if (id === this.origin) return -1;
    const index = this.history.findIndex((entry) => entry.id === id);
    return index === -1 ? undefined : index;
  }

  /** Returns the index of an id. For a lost id, returns the index of the position at which the log continued after the loss. */
  effectiveIndexOf(id: string): number {
    let current = id;
    for (let next = this.#lost.get(current); next !== undefined; next = this.#lost.get(current)) current = next;
    const index = this.indexOf(current);
    if (index === undefined) throw new Error(`Model: the engine never created the id ${id}`);
    return index;
  }

  #nextId(): string {
    this.#number += 1 + (this.#salt % 3 === 0 ? 1 : 0); // with gaps, as in ids that contain the time
    return `${this.#number}-${(this.#salt++).toString(36)}`;
  }
}

interface Request {
  readonly run: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  result: unknown;
}

/** What the engine has answered to the follower. */
type FollowerAnswer =
  | { readonly batch: readonly Entry[] }
  | { readonly rewind: string }
  | { readonly restart: JournalWindow; readonly reason: ResetReason }
  | 'search';

/** The journal of one process. The engine executes and answers its requests in order, each when the program requests it. */
export class SimulatedJournal implements Journal {
  /** The number of entries in one answer to a read, and in one batch. */
  readonly #page: number;
  readonly #engine: Engine;
  readonly #reportsTrims: boolean;
  #isUp = true;
  #sent: Request[] = [];
  #executed: Request[] = [];
  #follower: Follower | undefined;
  #cursor = '';
  #answer: FollowerAnswer | undefined;
  #reportedTrim = 0;

  constructor(engine: Engine, page: number, reportsTrims: boolean) {
    this.#engine = engine;
    this.#page = page;
    this.#reportsTrims = reportsTrims;
  }

  async open(): Promise<void> {}

  append(entry: NewEntry): Promise<string> {
    return this.#request(() => this.#engine.append(entry)) as Promise<string>;
  }

  async window(): Promise<JournalWindow> {
    return this.#engine.window();
  }

  read(after: string, limit: number): Promise<ReadResult> {
    return this.#request((): ReadResult => {
      const reason = this.#engine.refusalOf(after);
      if (reason) return { ok: false, reason };
      return { ok: true, entries: this.#engine.after(after, Math.min(limit, this.#page)) };
    }) as Promise<ReadResult>;
  }

  follow(after: string, follower: Follower): () => void {
    this.#cursor = after;
    this.#follower = follower;
    return () => (this.#follower = undefined);
  }

  compare(a: string, b: string): number {
    return compare(a, b);
  }

  isId(text: string): boolean {
    return ID_FORMAT.test(text);
  }

  async close(): Promise<void> {
    this.#follower = undefined;
  }

  /** The engine executes the oldest request. */
  execute(): boolean {
    const request = this.#sent.shift();
    if (request === undefined) return false;
    request.result = request.run();
    this.#executed.push(request);
    return true;
  }

  /** The oldest answer arrives. */
  reply(): boolean {
    const request = this.#executed.shift();
    request?.resolve(request.result);
    return request !== undefined;
  }

  /** The connection to the engine breaks. The process cannot determine whether the engine has executed its requests. */
  down(): void {
    this.#isUp = false;
    for (const { reject } of [...this.#executed, ...this.#sent]) reject(new Error('the engine is down'));
    this.#executed = [];
    this.#sent = [];
    this.#answer = undefined;
    this.#follower?.status?.(false);
  }

  up(): void {
    this.#isUp = true;
    this.#follower?.status?.(true);
  }

  /** The engine answers the follower's request. Returns whether there is an answer. */
  poll(): boolean {
    if (!this.#isUp || this.#answer !== undefined || !this.#follower) return false;
    const reason = this.#engine.refusalOf(this.#cursor);
    if (reason === undefined) {
      const batch = this.#engine.after(this.#cursor, this.#page);
      if (batch.length > 0) this.#answer = { batch };
    } else this.#answer = reason === 'lost' ? { restart: this.#engine.window(), reason } : 'search';
    return this.#answer !== undefined;
  }

  /** The answer reaches the follower. Returns whether the follower was called. */
  deliver(): boolean {
    const answer = this.#answer;
    const follower = this.#follower;
    if (answer === undefined || !follower) return this.#reportTrim();
    this.#answer = undefined;
    if (answer === 'search') this.#search(follower);
    else if ('batch' in answer) {
      this.#cursor = answer.batch.at(-1)!.id;
      follower.entries(answer.batch);
    } else if ('rewind' in answer) {
      // The ring may have dropped the common entry meanwhile.
      if (![...follower.known()].includes(answer.rewind)) this.#answer = 'search';
      else follower.rewind((this.#cursor = answer.rewind));
    } else {
      this.#cursor = answer.restart.entries.at(-1)?.id ?? answer.restart.floor;
      follower.restart(answer.restart, answer.reason);
    }
    return true;
  }

  #search(follower: Follower): void {
    for (const id of follower.known()) {
      if (this.#engine.refusalOf(id) !== undefined) continue;
      this.#answer = { rewind: id };
      return;
    }
    this.#answer = { restart: this.#engine.window(), reason: 'unknown' };
  }

  #reportTrim(): boolean {
    const { trimmed, history } = this.#engine;
    if (!this.#reportsTrims || !this.#isUp || trimmed === this.#reportedTrim) return false;
    this.#reportedTrim = trimmed;
    if (trimmed > 0) this.#follower?.trim?.(history[trimmed - 1]!.id);
    return true;
  }

  #request(run: () => unknown): Promise<unknown> {
    if (!this.#isUp) return Promise.reject(new Error('the engine is down'));
    return new Promise((resolve, reject) => this.#sent.push({ run, resolve, reject, result: undefined }));
  }
}
