/*
 * Who is connected, and the one way by which a broadcast reaches them: into the journal, and out of it.
 * Knows streams, audiences, the ring, turns, the clock and the journal's contract; neither Express nor an engine.
 * Invariant: what the journal tells is all that is handed out, in its order, here as in every other process.
 */

import { randomBytes } from 'node:crypto';
import { Audiences } from '../fanout/subscriber-groups.ts';
import { CatchUp } from './replayer.ts';
import { toEntry, type BroadcastOptions } from './publish.ts';
import type { CloseReason, Connection } from '../api/connection.ts';
import { SseError } from '../errors.ts';
import { HandOut } from './dispatcher.ts';
import type { Entry, Follower, Journal, ResetReason, Window } from '../journal/journal.ts';
import { Opening } from './journal-opener.ts';
import type { Settings } from '../options/options.ts';
import type { Outlet } from '../wire/transport.ts';
import { Range } from '../fanout/packet-cache.ts';
import { Registry } from './registry.ts';
import { Ring } from '../fanout/ring.ts';
import { signals, tell } from '../diagnostics/channels.ts';
import { Counters, type SseStats } from '../diagnostics/stats.ts';
import type { Cursor } from '../connection/delivery.ts';
import type { Admission, Home } from '../connection/host.ts';
import { report, warnOfLateJoin } from '../diagnostics/error-reporter.ts';
import { Stream } from '../connection/server-connection.ts';

/** What 8,000 clients that come back at once are served from without asking the engine. */
const RING = { entries: 16_384, bytes: 16_777_216 };
export class Hub implements Home, Follower {
  readonly settings: Settings;
  readonly journal: Journal;
  readonly resumable: boolean;
  readonly ring: Ring;
  readonly range: Range;
  readonly catchUp: CatchUp;
  readonly counters = new Counters();
  readonly registry: Registry;
  readonly opening: Opening;
  now = 0;
  /** Whom observers are told it is about. */
  router: object = this;
  /** Nobody is admitted any more. */
  draining = false;
  readonly #audiences = new Audiences<Cursor>();
  readonly #handOut: HandOut;
  readonly #name = randomBytes(6).toString('base64url');
  #number = 0;
  #unfollow: (() => void) | undefined;
  #warned = false;

  constructor(settings: Settings) {
    this.settings = settings;
    this.journal = settings.journal;
    this.resumable = settings.resumable;
    this.ring = new Ring(RING, (a, b) => this.journal.compare(a, b));
    this.range = new Range(this.ring, this.resumable);
    this.catchUp = new CatchUp(this);
    this.opening = new Opening(this.journal, (error) => this.report(error));
    this.registry = new Registry(settings.limits, this.counters, (now) => this.#look(now));
    this.#handOut = new HandOut(this.ring, this.range, this.#audiences, this);
  }

  get base(): number {
    return this.#handOut.base;
  }

  get turn(): number {
    return this.#handOut.turn;
  }

  /** The id to put into a page before its state is loaded; '' before the journal is open, and without history. */
  get position(): string {
    return this.resumable && this.opening.isDone ? this.ring.headId : '';
  }

  /** Opens the journal and follows it. */
  async open(): Promise<void> {
    const window = await this.opening.run(RING.entries);
    if (window === undefined) return;
    this.ring.fill(window);
    this.#handOut.rebase(this.ring.head);
    this.counters.journalUp = true;
    this.#unfollow = this.journal.follow(this.ring.headId, this);
    this.opening.done();
  }

  admit(outlet: Outlet, admission: Admission): Stream {
    this.now = this.registry.clock.now();
    const stream = new Stream(this, outlet, admission, ++this.#number);
    stream.audience = this.#audiences.move(stream, undefined, []);
    this.registry.connecting(stream);
    this.registry.clock.due(stream.tick(this.now));
    return stream;
  }

  /** Puts a message into the log. Resolves with its id once it is there. */
  async broadcast(message: unknown, options?: BroadcastOptions): Promise<string> {
    const { id, entry } = toEntry(message, options, this.settings); // at once: what is changed after the call changes nothing
    if (!this.opening.isDone && !(await this.opening.wait())) {
      throw new SseError(
        'ERR_SSE_JOURNAL',
        'The journal is closed, or could not be opened in time (onError, or a warning of the process, has the reason): nothing was stored.',
      );
    }
    const observed = signals.broadcast.hasSubscribers;
    const start = observed ? performance.now() : 0;
    const position = await this.journal.append(entry);
    this.counters.broadcasts++;
    if (observed) {
      const { to, except, body } = entry;
      const ms = performance.now() - start;
      signals.broadcast.publish({ router: this.router, id: position, to, except, bytes: body.byteLength, ms });
    }
    return this.resumable ? position : id;
  }

  stats(): SseStats {
    const { journalUp, ...counted } = this.counters;
    return {
      ...this.registry.gauges,
      channels: this.#audiences.channels,
      ringEntries: this.ring.head - this.ring.first + 1,
      ringBytes: this.ring.bytes,
      journalUp: journalUp ? 1 : 0,
      ...counted,
      closed: { ...counted.closed },
      refused: { ...counted.refused },
      resumes: { ...counted.resumes },
    };
  }

  /** Lets go of the journal. */
  async close(): Promise<void> {
    this.opening.stop();
    this.#unfollow?.();
    this.catchUp.close();
    this.registry.clock.stop();
    this.counters.journalUp = false;
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
    const n = this.ring.locate(id);
    if (n === undefined)
      throw new SseError('ERR_SSE_JOURNAL', `A journal rewinds to one of known(), and this is ${JSON.stringify(id)}.`);
    const gone = this.range.entries(n, this.ring.head);
    const streams = [...this.registry.unfinished()]; // who is ended meanwhile leaves the registry
    for (const stream of streams) stream.cursor = stream.position;
    this.ring.truncate(n);
    this.range.forget();
    this.#handOut.rebase(Math.min(this.base, n));
    for (const stream of streams) stream.truncated(n, gone);
  }

  restart(window: Window, reason: ResetReason): void {
    const streams = [...this.registry.open]; // who is ended meanwhile leaves the registry
    for (const stream of streams) stream.settleAt();
    this.ring.fill(window);
    this.range.forget();
    this.#handOut.rebase(this.ring.head);
    for (const stream of streams) stream.restarted(reason);
  }

  status(up: boolean, error?: Error): void {
    this.counters.journalUp = up;
    if (error !== undefined) this.report(error);
  }

  trim(id: string): void {
    this.ring.trim(id);
  }

  soon(stream: Stream): void {
    this.#handOut.soon(stream);
  }

  opened(stream: Stream): void {
    this.registry.opened(stream);
    tell(signals.open, this.router, stream);
    this.registry.clock.due(stream.tick(this.now));
  }

  over(stream: Stream, reason: CloseReason): void {
    this.#audiences.leave(stream, stream.audience!);
    if (this.registry.over(stream, reason)) tell(signals.close, this.router, stream, reason);
  }

  passed(stream: Stream, reason: CloseReason): void {
    this.counters.opened++;
    this.counters.closed[reason]++;
    tell(signals.open, this.router, stream);
    tell(signals.close, this.router, stream, reason);
  }

  moved(stream: Stream, channels: readonly string[]): void {
    stream.audience = this.#audiences.move(stream, stream.audience, channels);
  }

  due(at: number): void {
    this.registry.clock.due(at);
  }

  wasReset(stream: Stream, reason: ResetReason, lastEventId: string): void {
    tell(signals.reset, this.router, stream, reason, lastEventId);
  }

  joinedLate(): void {
    if (this.#warned) return;
    this.#warned = true;
    warnOfLateJoin();
  }

  name(number: number): string {
    return `${this.#name}-${number.toString(36)}`;
  }

  startTurn(): number {
    return (this.now = this.registry.clock.now());
  }

  handedOut(entries: number, ms: number): void {
    if (signals.handOut.hasSubscribers) signals.handOut.publish({ router: this.router, entries, ms });
  }

  report(error: unknown, stream?: Stream): void {
    report(this.settings.onError, error, stream as Connection | undefined);
  }

  /** What is due for the hub itself, when all connections are looked at. */
  #look(now: number): number {
    this.now = now;
    return this.catchUp.look(now);
  }
}
