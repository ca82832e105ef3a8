/*
 * A simulated engine, and the journal over it that a process has: every step of theirs is the program's to take.
 * Knows the journal's contract.
 * Invariant: an id names one entry for ever; the contract is kept whatever the program does.
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

const FORM = /^(\d+)-([0-9a-z]+)$/;

/** By number: '9-x' is before '10-a'. Never 0 for two ids. */
export function compare(a: string, b: string): number {
  const order = Number.parseInt(a, 10) - Number.parseInt(b, 10);
  if (order !== 0) return order;
  return a === b ? 0 : a < b ? -1 : 1;
}

/** The log that all processes share. */
export class Engine {
  /** What is true: everything since the last flush that was not rolled back, trimmed or not. */
  history: Entry[] = [];
  /** How many of those have been trimmed. */
  trimmed = 0;
  /** The position before the first entry. */
  first: string;
  #number = 7; // 9 and 10 are near
  #salt = 0;
  #gone = new Map<string, string>(); // ids that are not true any more → where the log was cut back to

  constructor() {
    this.first = this.#next();
  }

  get head(): string {
    return this.history.at(-1)?.id ?? this.first;
  }

  append(entry: NewEntry): string {
    const id = this.#next();
    this.history.push({
      id,
      body: entry.body,
      ...(entry.to && { to: entry.to }),
      ...(entry.except && { except: entry.except }),
    });
    return id;
  }

  /** Lets the oldest go. */
  trim(count: number): void {
    this.trimmed = Math.min(this.history.length, this.trimmed + count);
  }

  /** Forgets the newest. Later ids count on from there: lower than some that are gone, and with numbers that were used. */
  rollback(count: number): boolean {
    const keep = Math.max(this.trimmed, this.history.length - count);
    const gone = this.history.splice(keep);
    for (const { id } of gone) this.#gone.set(id, this.head);
    if (gone.length > 0) this.#number = Number.parseInt(this.head, 10);
    return gone.length > 0;
  }

  /** Forgets everything, and begins with lower numbers. */
  flush(): void {
    const gone = [this.first, ...this.history.map(({ id }) => id)];
    this.history = [];
    this.trimmed = 0;
    this.#number = Math.max(0, this.#number - 4);
    this.first = this.#next();
    for (const id of gone) this.#gone.set(id, this.first);
  }

  /** Why a position is not good; `undefined` when it is. What an engine can know: not in it, and older than its oldest or not. */
  whyNot(id: string): 'lost' | 'unknown' | undefined {
    if (id === this.head) return undefined;
    const at = this.indexOf(id);
    if (at !== undefined && at >= this.trimmed - (this.trimmed === 0 ? 1 : 0)) return undefined;
    return compare(id, this.history[this.trimmed]?.id ?? this.head) < 0 ? 'lost' : 'unknown';
  }

  after(id: string, limit: number): Entry[] {
    const from = Math.max(this.trimmed, (this.indexOf(id) as number) + 1);
    return this.history.slice(from, from + limit);
  }

  window(): JournalWindow {
    const entries = this.history.slice(this.trimmed);
    return { floor: this.history[this.trimmed - 1]?.id ?? this.first, entries };
  }

  /** Where an id stands in the history; -1 for the position before it; `undefined` for what is not (any more) in it. */
  indexOf(id: string): number | undefined {
    if (id === this.first) return -1;
    const at = this.history.findIndex((entry) => entry.id === id);
    return at === -1 ? undefined : at;
  }

  /** Where an id stood, or where the log was cut back to beneath it. */
  truly(id: string): number {
    let at = id;
    for (let to = this.#gone.get(at); to !== undefined; to = this.#gone.get(at)) at = to;
    const index = this.indexOf(at);
    if (index === undefined) throw new Error(`the model: ${id} was never handed out`);
    return index;
  }

  #next(): string {
    this.#number += 1 + (this.#salt % 3 === 0 ? 1 : 0); // with gaps, as clocks make them
    return `${this.#number}-${(this.#salt++).toString(36)}`;
  }
}

interface Request {
  readonly run: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  result: unknown;
}

type Told =
  | { readonly batch: readonly Entry[] }
  | { readonly rewind: string }
  | { readonly restart: JournalWindow; readonly reason: ResetReason }
  | 'search';

/** One process' handle on the engine: requests are executed and answered in order, each at the program's word. */
export class SimulatedJournal implements Journal {
  /** Entries in one answer to a read, and in one batch. */
  readonly #page: number;
  readonly #engine: Engine;
  readonly #tellsTrims: boolean;
  #up = true;
  #sent: Request[] = [];
  #executed: Request[] = [];
  #follower: Follower | undefined;
  #cursor = '';
  #told: Told | undefined;
  #trimTold = 0;

  constructor(engine: Engine, page: number, tellsTrims: boolean) {
    this.#engine = engine;
    this.#page = page;
    this.#tellsTrims = tellsTrims;
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
      const reason = this.#engine.whyNot(after);
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
    return FORM.test(text);
  }

  async close(): Promise<void> {
    this.#follower = undefined;
  }

  /** The engine does what was asked first. */
  execute(): boolean {
    const request = this.#sent.shift();
    if (request === undefined) return false;
    request.result = request.run();
    this.#executed.push(request);
    return true;
  }

  /** Its answer arrives. */
  reply(): boolean {
    const request = this.#executed.shift();
    request?.resolve(request.result);
    return request !== undefined;
  }

  /** The connection breaks: whether what was sent has been done, nobody knows. */
  down(): void {
    this.#up = false;
    for (const { reject } of [...this.#executed, ...this.#sent]) reject(new Error('the engine is down'));
    this.#executed = [];
    this.#sent = [];
    this.#told = undefined;
    this.#follower?.status?.(false);
  }

  up(): void {
    this.#up = true;
    this.#follower?.status?.(true);
  }

  /** The follower's question is answered by the engine. */
  poll(): boolean {
    if (!this.#up || this.#told !== undefined || !this.#follower) return false;
    const reason = this.#engine.whyNot(this.#cursor);
    if (reason === undefined) {
      const batch = this.#engine.after(this.#cursor, this.#page);
      if (batch.length > 0) this.#told = { batch };
    } else this.#told = reason === 'lost' ? { restart: this.#engine.window(), reason } : 'search';
    return this.#told !== undefined;
  }

  /** The answer reaches the follower. */
  deliver(): boolean {
    const told = this.#told;
    const follower = this.#follower;
    if (told === undefined || !follower) return this.#tellTrim();
    this.#told = undefined;
    if (told === 'search') this.#search(follower);
    else if ('batch' in told) {
      this.#cursor = told.batch.at(-1)!.id;
      follower.entries(told.batch);
    } else if ('rewind' in told) {
      // What was common may have left the ring meanwhile.
      if (![...follower.known()].includes(told.rewind)) this.#told = 'search';
      else follower.rewind((this.#cursor = told.rewind));
    } else {
      this.#cursor = told.restart.entries.at(-1)?.id ?? told.restart.floor;
      follower.restart(told.restart, told.reason);
    }
    return true;
  }

  #search(follower: Follower): void {
    for (const id of follower.known()) {
      if (this.#engine.whyNot(id) !== undefined) continue;
      this.#told = { rewind: id };
      return;
    }
    this.#told = { restart: this.#engine.window(), reason: 'unknown' };
  }

  #tellTrim(): boolean {
    const { trimmed, history } = this.#engine;
    if (!this.#tellsTrims || !this.#up || trimmed === this.#trimTold) return false;
    this.#trimTold = trimmed;
    if (trimmed > 0) this.#follower?.trim?.(history[trimmed - 1]!.id);
    return true;
  }

  #request(run: () => unknown): Promise<unknown> {
    if (!this.#up) return Promise.reject(new Error('the engine is down'));
    return new Promise((resolve, reject) => this.#sent.push({ run, resolve, reject, result: undefined }));
  }
}
