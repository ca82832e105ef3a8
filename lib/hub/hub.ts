/*
 * Who is connected, and the one way by which a broadcast reaches them: into the journal, and out of it.
 * Knows streams, audiences, the ring, turns, the clock and the journal's contract; neither Express nor an engine.
 * Invariant: what the journal tells is all that is handed out, in its order, here as in every other process.
 */

import { randomBytes } from 'node:crypto';
import { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import { Replayer } from './replayer.ts';
import { toEntry, type BroadcastOptions } from './publish.ts';
import type { CloseReason, Connection } from '../api/connection.ts';
import { SseError, SseTypeError } from '../errors.ts';
import { Dispatcher } from './dispatcher.ts';
import type { Entry, Follower, Journal, ResetReason, JournalWindow } from '../journal/journal.ts';
import { JournalOpener } from './journal-opener.ts';
import type { Settings } from '../options/options.ts';
import type { Transport } from '../wire/transport.ts';
import { PacketCache } from '../fanout/packet-cache.ts';
import { Registry } from './registry.ts';
import { Ring } from '../fanout/ring.ts';
import { channels, publish } from '../diagnostics/channels.ts';
import { Counters, type SseStats } from '../diagnostics/stats.ts';
import type { Cursor } from '../connection/delivery.ts';
import type { ConnectionRequest, ConnectionHost } from '../connection/host.ts';
import { report, warnOfLateJoin } from '../diagnostics/error-reporter.ts';
import { ServerConnection } from '../connection/server-connection.ts';

/** What 8,000 clients that come back at once are served from without asking the engine. */
const RING = { entries: 16_384, bytes: 16_777_216 };
export class Hub implements ConnectionHost, Follower {
  readonly settings: Settings;
  readonly journal: Journal;
  readonly resumable: boolean;
  readonly ring: Ring;
  readonly packets: PacketCache;
  readonly replayer: Replayer;
  readonly counters = new Counters();
  readonly registry: Registry;
  readonly opener: JournalOpener;
  now = 0;
  /** Whom observers are told it is about. */
  router: object = this;
  /** Nobody is admitted any more. */
  closing = false;
  readonly #audiences = new SubscriberGroups<Cursor>();
  readonly #dispatcher: Dispatcher;
  readonly #name = randomBytes(6).toString('base64url');
  #number = 0;
  #unfollow: (() => void) | undefined;
  #warned = false;

  constructor(settings: Settings) {
    this.settings = settings;
    this.journal = settings.journal;
    this.resumable = settings.resumable;
    this.ring = new Ring(RING, (a, b) => this.journal.compare(a, b));
    this.packets = new PacketCache(this.ring, this.resumable);
    this.replayer = new Replayer(this);
    this.opener = new JournalOpener(this.journal, (error) => this.report(error));
    this.registry = new Registry(settings.limits, this.counters, (now) => this.#look(now));
    this.#dispatcher = new Dispatcher(this.ring, this.packets, this.#audiences, this);
  }

  get dispatchedUpTo(): number {
    return this.#dispatcher.dispatchedUpTo;
  }

  get tick(): number {
    return this.#dispatcher.tick;
  }

  /** The id to put into a page before its state is loaded; '' before the journal is open, and without history. */
  get position(): string {
    return this.resumable && this.opener.isOpen ? this.ring.headId : '';
  }

  /** Opens the journal and follows it. */
  async open(): Promise<void> {
    const window = await this.opener.open(RING.entries);
    if (window === undefined) return;
    this.ring.fill(window);
    this.#dispatcher.resetTo(this.ring.head);
    this.counters.journalUp = true;
    this.#unfollow = this.journal.follow(this.ring.headId, this);
    this.opener.markOpen();
  }

  admit(outlet: Transport, admission: ConnectionRequest): ServerConnection {
    this.now = this.registry.timer.now();
    const stream = new ServerConnection(this, outlet, admission, ++this.#number);
    stream.group = this.#audiences.assign(stream, undefined, []);
    this.registry.addConnecting(stream);
    this.registry.timer.wakeAt(stream.onSweep(this.now));
    return stream;
  }

  /** Puts a message into the log. Resolves with its id once it is there. */
  async broadcast(message: unknown, options?: BroadcastOptions): Promise<string> {
    const { id, entry } = toEntry(message, options, this.settings); // at once: what is changed after the call changes nothing
    if (!this.opener.isOpen && !(await this.opener.whenOpen())) {
      throw new SseError(
        'ERR_SSE_JOURNAL',
        'The journal is closed, or could not be opened in time (onError, or a warning of the process, has the reason): nothing was stored.',
      );
    }
    const observed = channels.broadcast.hasSubscribers;
    const start = observed ? performance.now() : 0;
    const position = await this.journal.append(entry);
    this.counters.broadcasts++;
    if (observed) {
      const { to, except, body } = entry;
      const ms = performance.now() - start;
      channels.broadcast.publish({ router: this.router, id: position, to, except, bytes: body.byteLength, ms });
    }
    return this.resumable ? position : id;
  }

  /** Writes messages into the journal as part of a transaction of the application. */
  within(transaction: unknown): (message: unknown, options?: BroadcastOptions) => Promise<void> {
    if (this.journal.within === undefined) {
      throw new SseTypeError(
        'ERR_SSE_OPTION',
        'within() needs a journal with transactions; received one without. Set history to postgresJournal(pool) of sse-router/postgres.',
      );
    }
    const joined = this.journal.within(transaction);
    return async (message, options) => {
      await joined.append(toEntry(message, options, this.settings).entry);
      this.counters.broadcasts++;
    };
  }

  stats(): SseStats {
    const { journalUp, ...counted } = this.counters;
    return {
      ...this.registry.gauges,
      channels: this.#audiences.channelCount,
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
    this.opener.stop();
    this.#unfollow?.();
    this.replayer.close();
    this.registry.timer.stop();
    this.counters.journalUp = false;
    await this.journal.close();
  }

  entries(batch: readonly Entry[]): void {
    let bytes = 0;
    for (const entry of batch) {
      this.ring.push(entry);
      bytes += entry.body.byteLength;
    }
    this.#dispatcher.onAppended(bytes);
    this.replayer.onAppended();
  }

  known(): Iterable<string> {
    return this.ring.ids();
  }

  rewind(id: string): void {
    const n = this.ring.locate(id);
    if (n === undefined)
      throw new SseError('ERR_SSE_JOURNAL', `A journal rewinds to one of known(), and this is ${JSON.stringify(id)}.`);
    const gone = this.packets.entries(n, this.ring.head);
    const streams = [...this.registry.allWithClosing()]; // who is ended meanwhile leaves the registry
    for (const stream of streams) stream.cursor = stream.position;
    this.ring.truncate(n);
    this.packets.clear();
    this.#dispatcher.resetTo(Math.min(this.dispatchedUpTo, n));
    for (const stream of streams) stream.onJournalRewind(n, gone);
  }

  restart(window: JournalWindow, reason: ResetReason): void {
    const streams = [...this.registry.open]; // who is ended meanwhile leaves the registry
    for (const stream of streams) stream.saveCursorId();
    this.ring.fill(window);
    this.packets.clear();
    this.#dispatcher.resetTo(this.ring.head);
    for (const stream of streams) stream.onJournalRestart(reason);
  }

  status(up: boolean, error?: Error): void {
    this.counters.journalUp = up;
    if (error !== undefined) this.report(error);
  }

  trim(id: string): void {
    this.ring.trim(id);
  }

  scheduleFlush(stream: ServerConnection): void {
    this.#dispatcher.scheduleFlush(stream);
  }

  onOpened(stream: ServerConnection): void {
    this.registry.markOpened(stream);
    publish(channels.open, this.router, stream);
    this.registry.timer.wakeAt(stream.onSweep(this.now));
  }

  onClosed(stream: ServerConnection, reason: CloseReason): void {
    this.#audiences.remove(stream, stream.group!);
    if (this.registry.markClosed(stream, reason)) publish(channels.close, this.router, stream, reason);
  }

  onOpenedAndClosed(stream: ServerConnection, reason: CloseReason): void {
    this.counters.opened++;
    this.counters.closed[reason]++;
    publish(channels.open, this.router, stream);
    publish(channels.close, this.router, stream, reason);
  }

  onChannelsChanged(stream: ServerConnection, channels: readonly string[]): void {
    stream.group = this.#audiences.assign(stream, stream.group, channels);
  }

  wakeAt(at: number): void {
    this.registry.timer.wakeAt(at);
  }

  onReset(stream: ServerConnection, reason: ResetReason, lastEventId: string): void {
    publish(channels.reset, this.router, stream, reason, lastEventId);
  }

  onLateJoin(): void {
    if (this.#warned) return;
    this.#warned = true;
    warnOfLateJoin();
  }

  nameOf(number: number): string {
    return `${this.#name}-${number.toString(36)}`;
  }

  onTickStart(): number {
    return (this.now = this.registry.timer.now());
  }

  onDispatched(entries: number, ms: number): void {
    if (channels.handOut.hasSubscribers) channels.handOut.publish({ router: this.router, entries, ms });
  }

  report(error: unknown, stream?: ServerConnection): void {
    report(this.settings.onError, error, stream as Connection | undefined);
  }

  /** What is due for the hub itself, when all connections are looked at. */
  #look(now: number): number {
    this.now = now;
    return this.replayer.expire(now);
  }
}
