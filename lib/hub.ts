/*
 * Who is connected, and the one way by which a broadcast reaches them: into the journal, and out of it.
 * Knows streams, audiences, the ring, turns, the clock and the journal's contract; neither Express nor an engine.
 * Invariant: what the journal tells is all that is handed out, in its order, here as in every other process.
 */

import { randomBytes } from 'node:crypto';
import { Audiences, put, take, View } from './audience.ts';
import { CatchUp } from './catch-up.ts';
import { Clock } from './clock.ts';
import type { CloseReason, Connection } from './connection.ts';
import { SseError, SseTypeError } from './errors.ts';
import { encode, idLine } from './frame.ts';
import { HandOut } from './hand-out.ts';
import type { Entry, Follower, Journal, ResetReason, Window } from './journal.ts';
import type { Settings } from './options.ts';
import type { Outlet } from './outlet.ts';
import { Range } from './range.ts';
import type { Reader } from './reader.ts';
import { Ring } from './ring.ts';
import { Counters, type SseStats } from './stats.ts';
import { checkChannels, Stream, type Admission, type Home } from './stream.ts';

/** What 8,000 clients that come back at once are served from without asking the engine. */
const RING = { entries: 16_384, bytes: 16_777_216 };
/** What is still to be taken when a stream ends has this long, before its socket is destroyed: milliseconds. */
const LAST_SECOND = 1000;
/** How long is waited for the journal to open: milliseconds. */
const OPENING = 10_000;
/** How long one look at all connections may hold the event loop: milliseconds. */
const SLICE = 10;

/** Who gets a broadcast. Without `to`: everyone; `to: []`: nobody. `except` takes away. */
export interface BroadcastOptions {
  to?: string | readonly string[];
  except?: string | readonly string[];
  /** The application's own name for this broadcast: a second one with the same key is not stored again. */
  key?: string;
}

export class Hub implements Home, Follower {
  readonly settings: Settings;
  readonly journal: Journal;
  readonly resumable: boolean;
  readonly ring: Ring;
  readonly range: Range;
  readonly catchUp: CatchUp;
  readonly connections = new View<Stream>();
  readonly counters = new Counters();
  now = 0;
  /** Nobody is admitted any more. */
  draining = false;
  readonly #audiences = new Audiences<Reader>();
  readonly #handOut: HandOut;
  readonly #clock: Clock;
  readonly #connecting = new Set<Stream>();
  readonly #leaving = new Map<Stream, number>(); // ended, and until when that may take
  readonly #behind = new Set<Stream>();
  readonly #clients = new Map<string, number>(); // places per client, where they are limited
  readonly #name = randomBytes(6).toString('base64url');
  #number = 0;
  #isOpen = false;
  #isClosed = false;
  readonly #onOpen = new Set<(is: boolean) => void>();
  #unfollow: (() => void) | undefined;
  #onEmpty: (() => void) | undefined;
  #warned = false;

  constructor(settings: Settings) {
    this.settings = settings;
    this.journal = settings.journal;
    this.resumable = settings.resumable;
    this.ring = new Ring(RING, (a, b) => this.journal.compare(a, b));
    this.range = new Range(this.ring, this.resumable);
    this.catchUp = new CatchUp(this);
    this.#clock = new Clock((now) => this.#look(now));
    this.#handOut = new HandOut(this.ring, this.range, this.#audiences, () => (this.now = this.#clock.now()));
  }

  get base(): number {
    return this.#handOut.base;
  }

  get turn(): number {
    return this.#handOut.turn;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** How many have a place: those that are open, and those whose handler is at work. */
  get admitted(): number {
    return this.connections.size + this.#connecting.size;
  }

  /** The id to put into a page before its state is loaded; '' before the journal is open, and without history. */
  get position(): string {
    return this.resumable && this.#isOpen ? this.ring.headId : '';
  }

  /** Opens the journal and follows it, trying for as long as it takes. */
  async open(): Promise<void> {
    for (let pause = 100; !this.#isOpen && !this.#isClosed; pause = Math.min(pause * 2, 5000)) {
      try {
        await this.journal.open(); // oxlint-disable-line no-await-in-loop -- until it works
        this.ring.fill(await this.journal.window(RING.entries)); // oxlint-disable-line no-await-in-loop
      } catch (error) {
        this.report(error);
        await new Promise((resolve) => setTimeout(resolve, pause).unref()); // oxlint-disable-line no-await-in-loop
        continue;
      }
      if (this.#isClosed) return;
      this.#handOut.rebase(this.ring.head);
      this.#isOpen = true;
      this.#unfollow = this.journal.follow(this.ring.headId, this);
      for (const call of this.#onOpen) call(true);
      this.#onOpen.clear();
    }
  }

  /** Whether the journal is open, or is within ten seconds. */
  ready(): Promise<boolean> {
    if (this.#isOpen) return Promise.resolve(true);
    return new Promise((resolve) => {
      const call = (is: boolean): void => {
        clearTimeout(timer);
        this.#onOpen.delete(call);
        resolve(is);
      };
      const timer = setTimeout(call, OPENING, false).unref();
      this.#onOpen.add(call);
    });
  }

  /** Why this client gets no place, if it gets none. */
  full(client: string): 'connections' | 'perClient' | undefined {
    const { limits } = this.settings;
    if (this.admitted >= limits.connections) return 'connections';
    return (this.#clients.get(client) ?? 0) >= limits.perClient ? 'perClient' : undefined;
  }

  admit(outlet: Outlet, admission: Admission): Stream {
    const { client } = admission;
    if (client !== '') this.#clients.set(client, (this.#clients.get(client) ?? 0) + 1);
    this.now = this.#clock.now();
    const stream = new Stream(this, outlet, admission, ++this.#number);
    stream.audience = this.#audiences.move(stream, undefined, []);
    this.#connecting.add(stream);
    this.#clock.due(this.now + this.settings.heartbeat);
    return stream;
  }

  /** Puts a message into the log. Resolves with its id once it is there. */
  async broadcast(message: unknown, options: BroadcastOptions = {}): Promise<string> {
    const to = channelsOf(options.to);
    const except = channelsOf(options.except);
    const { key } = options;
    const { id, body } = encode(message, this.settings.serialize);
    if (id !== undefined && this.resumable) {
      throw new SseTypeError(
        'ERR_SSE_ID',
        `The log gives a broadcast its id, so it cannot bring its own (${JSON.stringify(id)}): leave it out, or set history: false.`,
      );
    }
    const bytes = Buffer.from(id === undefined ? body : idLine(id) + body);
    if (!this.#isOpen && !(await this.ready())) {
      throw new SseError(
        'ERR_SSE_JOURNAL',
        `The journal is not open after ${OPENING} ms: nothing was stored. Its errors went to onError.`,
      );
    }
    const entry = { ...(to && { to }), ...(except && { except }), body: bytes, ...(key !== undefined && { key }) };
    const position = await this.journal.append(entry);
    this.counters.broadcasts++;
    return this.resumable ? position : (id ?? '');
  }

  stats(): SseStats {
    const { journalUp, ...counted } = this.counters;
    let bufferedBytes = 0;
    for (const stream of this.#behind) bufferedBytes += stream.bufferedBytes;
    return {
      connections: this.connections.size,
      connecting: this.#connecting.size,
      channels: this.#audiences.channels,
      behind: this.#behind.size,
      bufferedBytes,
      ringEntries: this.ring.head - this.ring.first + 1,
      ringBytes: this.ring.bytes,
      journalUp: journalUp ? 1 : 0,
      ...counted,
      closed: { ...counted.closed },
      resumes: { ...counted.resumes },
    };
  }

  /** Every stream, open or not. */
  *all(): Generator<Stream> {
    yield* this.#connecting;
    yield* this.connections;
  }

  /** Resolves when no stream is left, not even one that is being ended. */
  empty(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
      this.#rest();
    });
  }

  /** Lets go of the journal. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unfollow?.();
    for (const call of this.#onOpen) call(false);
    this.catchUp.close();
    this.#clock.stop();
    await this.journal.close();
  }

  entries(batch: readonly Entry[]): void {
    let bytes = 0;
    for (const entry of batch) {
      this.ring.push(entry);
      bytes += entry.body.byteLength;
    }
    this.#handOut.grown(bytes);
    this.catchUp.grown();
  }

  known(): Iterable<string> {
    return this.ring.ids();
  }

  rewind(id: string): void {
    const n = this.ring.find(id);
    if (n === undefined)
      throw new SseError('ERR_SSE_JOURNAL', `A journal rewinds to one of known(), and this is ${JSON.stringify(id)}.`);
    const gone = this.range.entries(n, this.ring.head);
    for (const stream of this.all()) stream.cursor = stream.position;
    this.ring.truncate(n);
    this.range.forget();
    this.#handOut.rebase(Math.min(this.base, n));
    for (const stream of [...this.all()]) stream.truncated(n, gone);
  }

  restart(window: Window, reason: ResetReason): void {
    this.ring.fill(window);
    this.range.forget();
    this.#handOut.rebase(this.ring.head);
    for (const stream of [...this.connections]) stream.reset(reason);
  }

  status(up: boolean): void {
    this.counters.journalUp = up;
  }

  trim(id: string): void {
    this.ring.trim(id);
  }

  soon(stream: Stream): void {
    this.#handOut.soon(stream);
  }

  opened(stream: Stream): void {
    this.#connecting.delete(stream);
    put(this.connections, stream);
    this.counters.opened++;
    this.#clock.due(stream.tick(this.now));
  }

  leaving(stream: Stream): void {
    const until = this.#clock.now() + LAST_SECOND;
    this.#leaving.set(stream, until);
    this.#clock.due(until);
  }

  over(stream: Stream, reason: CloseReason): void {
    this.#audiences.leave(stream, stream.audience!);
    this.#behind.delete(stream);
    this.#connecting.delete(stream);
    const places = this.#clients.get(stream.client) ?? 0;
    if (places > 1) this.#clients.set(stream.client, places - 1);
    else this.#clients.delete(stream.client);
    if (take(this.connections, stream)) this.counters.closed[reason]++;
    this.#rest();
  }

  finished(stream: Stream): void {
    this.#leaving.delete(stream);
    this.#rest();
  }

  moved(stream: Stream, channels: readonly string[]): void {
    stream.audience = this.#audiences.move(stream, stream.audience, channels);
  }

  behind(stream: Stream, is: boolean): void {
    if (is) this.#behind.add(stream);
    else this.#behind.delete(stream);
  }

  due(at: number): void {
    this.#clock.due(at);
  }

  wasReset(): void {}

  joinedLate(): void {
    if (this.#warned) return;
    this.#warned = true;
    process.emitWarning(
      'A returning client joined a channel after its stream had opened: what it missed there is not sent. Join before the first push, or before the handler returns.',
      { code: 'SSE_JOINED_LATE' },
    );
  }

  name(number: number): string {
    return `${this.#name}-${number.toString(36)}`;
  }

  wrote(events: number, bytes: number): void {
    this.counters.events += events;
    this.counters.bytes += bytes;
  }

  resumed(outcome: 'resumed' | ResetReason): void {
    this.counters.resumes[outcome]++;
  }

  report(error: unknown, stream?: Stream): void {
    try {
      if (this.settings.onError) this.settings.onError(error, stream as Connection | undefined);
      else warn(error);
    } catch (second) {
      warn(second);
    }
  }

  #rest(): void {
    if (this.#onEmpty && this.admitted === 0 && this.#leaving.size === 0) this.#onEmpty();
  }

  /** Does what is due: heartbeats, ages, the slow, those who may not take longer to end. */
  #look(now: number): { next: number; looked: number } {
    this.now = now;
    const start = performance.now();
    let next = this.catchUp.size > 0 ? now + 1000 : Infinity;
    let looked = 0;
    for (const stream of this.catchUp.overdue(now)) (stream as Stream).finish('error');
    for (const [stream, until] of this.#leaving) {
      if (now >= until) {
        this.#leaving.delete(stream);
        stream.outlet.destroy();
      } else next = Math.min(next, until);
    }
    for (const stream of this.all()) {
      next = Math.min(next, stream.tick(now));
      if (++looked % 64 === 0 && performance.now() - start > SLICE) return { next: now, looked };
    }
    this.#rest();
    return { next, looked };
  }
}

function channelsOf(given: unknown): readonly string[] | undefined {
  if (given === undefined) return undefined;
  const channels: readonly unknown[] = Array.isArray(given) ? given : [given];
  checkChannels(channels);
  return channels;
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
