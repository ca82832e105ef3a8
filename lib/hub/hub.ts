/*
 * The parts of one router, and what happens when the journal delivers entries or a connection changes.
 * Invariant: the hub dispatches what the journal delivers and nothing else, in the journal's order, as in every other process.
 */

import { randomBytes } from 'node:crypto';
import type { CloseReason, Connection } from '../api/connection.ts';
import type { ConnectionHost } from '../connection/host.ts';
import { ServerConnection } from '../connection/server-connection.ts';
import type { ConnectionRequest } from '../connection/state.ts';
import { channels, publish } from '../diagnostics/channels.ts';
import { report, warnOfHeldBack, warnOfLateJoin } from '../diagnostics/error-reporter.ts';
import { Counters, type SseStats } from '../diagnostics/stats.ts';
import { SseError } from '../errors.ts';
import { PacketCache } from '../fanout/packet-cache.ts';
import { Ring, type RingLimits } from '../fanout/ring.ts';
import { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import { closeWithin } from '../journal/closing.ts';
import type { Entry, Follower, Journal, JournalWindow, ResetReason } from '../journal/journal.ts';
import type { Settings } from '../options/options.ts';
import { isDisconnect, MAX_ID_LENGTH } from '../wire/event-stream.ts';
import type { Transport } from '../wire/transport.ts';
import { AppendTracker } from './append-tracker.ts';
import { Disconnects, forRing, windowForRing } from './disconnects.ts';
import { Dispatcher } from './dispatcher.ts';
import { brokenContract } from './journal-faults.ts';
import { JournalOpener } from './journal-opener.ts';
import { PendingSnapshots } from './pending-snapshots.ts';
import { Rechecker } from './rechecker.ts';
import { Producers } from './producers.ts';
import { Registry } from './registry.ts';
import { Replayer } from './replayer.ts';
import { spreadCloses } from './spread-closes.ts';
import { SweepTimer } from './sweep-timer.ts';

/** The limits of the ring: 8,000 clients that return at once need no read from the engine. */
const RING_LIMITS: RingLimits = { entries: 16_384, bytes: 16_777_216 };

/** The time over which connections close after a restart of the journal. */
const RESTART_SPREAD_MS = 5000;

export class Hub implements ConnectionHost, Follower {
  readonly settings: Settings;
  readonly journal: Journal;
  readonly completion = undefined;
  readonly opener: JournalOpener;
  readonly ring: Ring;
  readonly packets: PacketCache;
  readonly groups = new SubscriberGroups<ServerConnection>();
  readonly dispatcher: Dispatcher;
  readonly replayer: Replayer;
  readonly timer: SweepTimer;
  readonly registry: Registry;
  readonly disconnects: Disconnects;
  readonly appends: AppendTracker;
  readonly rechecker: Rechecker | undefined;
  readonly pendingSnapshots: PendingSnapshots | undefined;
  readonly producers = new Producers();
  readonly counters = new Counters();
  /** The value of `router` in diagnostics messages. */
  router: object = this;
  /** Whether the router shuts down: it admits no more requests. */
  isClosing = false;
  /** Whether the shutdown is complete. */
  isClosed = false;
  readonly #name = randomBytes(6).toString('base64url');
  #lastSerial = 0;
  #unfollow: (() => void) | undefined;
  #hasWarnedOfLateJoin = false;
  #hasWarnedOfHeldBack = false;
  /** Resolve the promises of {@link whenAppended}. */
  readonly #appendWaiters = new Set<() => void>();

  constructor(settings: Settings, ringLimits: RingLimits = RING_LIMITS) {
    const { journal, sendsPositions, limits } = settings;
    this.settings = settings;
    this.journal = journal;
    this.opener = new JournalOpener(journal, (error) => this.report(error));
    this.ring = new Ring(ringLimits, (a, b) => journal.compare(a, b));
    this.packets = new PacketCache(this.ring, sendsPositions);
    this.timer = new SweepTimer((now) => this.registry.sweep(now, this.#expire(now)));
    this.registry = new Registry(limits, this.counters, this.timer);
    this.dispatcher = new Dispatcher(this, (entries, ms) => this.#onDispatched(entries, ms));
    this.replayer = new Replayer(this);
    this.disconnects = new Disconnects(this);
    this.appends = new AppendTracker(this);
    this.pendingSnapshots = settings.snapshot && new PendingSnapshots(this.timer);
    this.rechecker = settings.recheck && new Rechecker(settings.recheck);
  }

  /** The id to put into a page before its state is loaded; '' before the journal is open, and without history. */
  get position(): string {
    return this.settings.resumable && this.opener.isOpen ? this.ring.headId : '';
  }

  /** Opens the journal and follows it. Never rejects: what the journal throws goes to `onError`. */
  open(): Promise<void> {
    return this.opener.open(RING_LIMITS.entries, (window) => this.#follow(window));
  }

  #follow(window: JournalWindow): void {
    this.ring.fill(windowForRing(window));
    this.dispatcher.resetTo(this.ring.head);
    this.counters.journalUp = true;
    try {
      const unfollow: unknown = this.journal.follow(this.ring.headId, this);
      if (typeof unfollow === 'function') this.#unfollow = unfollow as () => void;
      else this.report(brokenContract('The result of follow()', 'a function', unfollow));
    } catch (error) {
      this.counters.journalUp = false;
      throw error;
    }
  }

  /** Closes the journal and stops everything that would still run. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.opener.stop();
    this.rechecker?.close();
    this.wake();
    try {
      this.#unfollow?.();
    } catch (error) {
      this.report(error);
    }
    this.replayer.close();
    this.timer.stop();
    this.counters.journalUp = false;
    await closeWithin('journal', this.journal, (error) => this.report(error));
  }

  /** Whether the journal can look up an id that a client has sent. Reports a journal that throws: the client tries again later. */
  canLookUp(id: string): boolean {
    if (!this.settings.sendsPositions || id.length > MAX_ID_LENGTH) return true;
    try {
      if (this.journal.isId(id)) this.ring.find(id);
      return true;
    } catch (error) {
      this.report(error);
      return false;
    }
  }

  /** Makes a connection of a request, at the head as it is now. */
  admit(transport: Transport, request: ConnectionRequest): ServerConnection {
    const now = this.timer.refresh();
    const connection = new ServerConnection(this, transport, request, ++this.#lastSerial);
    connection.group = this.groups.assign(connection, undefined, []);
    this.registry.addConnecting(connection);
    this.timer.wakeAt(connection.onSweep(now));
    return connection;
  }

  stats(): SseStats {
    return {
      ...this.registry.gauges,
      channels: this.groups.channelCount,
      ringEntries: this.ring.head - this.ring.first + 1,
      ringBytes: this.ring.bytes,
      ...this.counters.toStats(),
    };
  }

  idOf(serial: number): string {
    return `${this.#name}-${serial.toString(36)}`;
  }

  report(error: unknown, connection?: ServerConnection): void {
    const { onError } = this.settings;
    if (connection === undefined) report(onError, error, undefined);
    else connection.inContext(() => report(onError, error, connection as Connection));
  }

  // ---- The journal calls these (see `Follower`)

  entries(batch: readonly Entry[]): void {
    let bytes = 0;
    for (const entry of batch) {
      bytes += entry.body.byteLength;
      const stored = forRing(entry);
      this.ring.push(stored);
      if (stored !== entry) this.disconnects.apply(entry, this.ring.head);
    }
    this.dispatcher.onAppended(bytes);
    this.replayer.onAppended();
    this.wake();
  }

  known(): Iterable<string> {
    return this.ring.ids();
  }

  rewind(id: string): void {
    const n = this.ring.locate(id);
    if (n === undefined) {
      throw new SseError(
        'ERR_SSE_JOURNAL',
        `The id of rewind() must be one of known(); received ${JSON.stringify(id)}. Call restart() if no known id is in the log.`,
      );
    }
    const removed = this.packets.entries(n, this.ring.head);
    const connections = [...this.registry.allWithClosing()]; // a connection that ends meanwhile leaves the registry
    for (const connection of connections) connection.saveCursor();
    this.ring.truncate(n);
    this.packets.clear();
    this.dispatcher.resetTo(Math.min(this.dispatcher.dispatchedUpTo, n));
    this.disconnects.onRewind(n);
    this.appends.onEntriesLost();
    for (const connection of connections) connection.onJournalRewind(n, removed);
    this.wake();
  }

  restart(window: JournalWindow, reason: ResetReason): void {
    const connections = [...this.registry.open]; // a connection that ends meanwhile leaves the registry
    const previousHead = this.ring.headId;
    for (const connection of connections) connection.saveCursorId();
    this.ring.fill(windowForRing(window));
    this.packets.clear();
    this.dispatcher.resetTo(this.ring.head);
    this.appends.onEntriesLost();
    const before = this.ring.head - window.entries.length;
    for (const [index, entry] of window.entries.entries()) {
      const isMissed = isDisconnect(entry.body) && this.journal.compare(entry.id, previousHead) > 0;
      if (isMissed) this.disconnects.apply(entry, before + 1 + index);
    }
    for (const connection of connections) {
      if (connection.isClosed) connection.closeWithoutRest();
      else connection.onJournalRestart(reason);
    }
    this.wake();
    // Entries that the process has not seen may have been disconnects: every client is authorised anew.
    void spreadCloses([...this.registry.all()], RESTART_SPREAD_MS, (connection) => connection.beginClose('disconnect'));
  }

  status(up: boolean, error?: Error): void {
    this.counters.journalUp = up;
    if (error !== undefined) this.report(error);
  }

  trim(id: string): void {
    this.ring.trim(id);
  }

  // ---- A connection calls these (see `ConnectionHost`)

  onOpened(connection: ServerConnection): void {
    this.registry.markOpened(connection);
    this.rechecker?.add(connection);
    publish(channels.open, this.router, connection);
    this.timer.wakeAt(connection.onSweep(this.timer.now));
  }

  onClosed(connection: ServerConnection, reason: CloseReason): void {
    this.groups.remove(connection, connection.group!);
    this.rechecker?.remove(connection);
    this.pendingSnapshots?.remove(connection);
    if (this.registry.markClosed(connection, reason)) publish(channels.close, this.router, connection, reason);
  }

  onOpenedAndClosed(connection: ServerConnection, reason: CloseReason): void {
    this.counters.opened++;
    this.counters.closed[reason]++;
    publish(channels.open, this.router, connection);
    publish(channels.close, this.router, connection, reason);
  }

  onChannelsChanged(connection: ServerConnection, names: readonly string[]): void {
    connection.group = this.groups.assign(connection, connection.group, names);
    if (connection.lifecycle === 'connecting') this.disconnects.onJoined(connection, names);
  }

  onReset(connection: ServerConnection, reason: ResetReason, lastEventId: string): void {
    publish(channels.reset, this.router, connection, reason, lastEventId);
  }

  onLateJoin(): void {
    if (this.#hasWarnedOfLateJoin) return;
    this.#hasWarnedOfLateJoin = true;
    warnOfLateJoin();
  }

  onHeldBack(): void {
    if (this.#hasWarnedOfHeldBack) return;
    this.#hasWarnedOfHeldBack = true;
    warnOfHeldBack();
  }

  /** Resolves when the ring has changed, when {@link wake} is called, when the hub closes, or when the signal aborts. */
  whenAppended(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      if (this.isClosed || signal?.aborted) return resolve();
      const wake = (): void => {
        this.#appendWaiters.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#appendWaiters.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }

  /** Resolves the promises of {@link whenAppended}. */
  wake(): void {
    for (const wake of this.#appendWaiters) wake();
  }

  /** Closes the connections that have waited too long for the journal or for a snapshot. @returns when to call this again */
  #expire(now: number): number {
    return Math.min(this.replayer.expire(now), this.pendingSnapshots?.expire(now) ?? Infinity);
  }

  #onDispatched(entries: number, ms: number): void {
    if (channels.handOut.hasSubscribers) channels.handOut.publish({ router: this.router, entries, ms });
  }
}
