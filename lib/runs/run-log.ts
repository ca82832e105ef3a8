/*
 * The log of one run in this process, while the run has readers here: the newest chunks, and the connections that receive them.
 * Invariants: every reader receives each chunk after its position once and in order, then the end, and then its response ends. The
 * readers of one run share encoded packets. A slow reader holds no chunk in memory: it reads older ones from the store.
 */

import type { CloseReason, Connection } from '../api/connection.ts';
import type { Completion, ConnectionHost } from '../connection/host.ts';
import { ServerConnection } from '../connection/server-connection.ts';
import type { ConnectionRequest } from '../connection/state.ts';
import { channels, publish } from '../diagnostics/channels.ts';
import type { Counters } from '../diagnostics/stats.ts';
import { PacketCache } from '../fanout/packet-cache.ts';
import { Ring, type RingLimits } from '../fanout/ring.ts';
import { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import { Dispatcher } from '../hub/dispatcher.ts';
import type { Registry } from '../hub/registry.ts';
import { Replayer } from '../hub/replayer.ts';
import { spreadCloses } from '../hub/spread-closes.ts';
import type { SweepTimer } from '../hub/sweep-timer.ts';
import type { JournalWindow, ResetReason } from '../journal/journal.ts';
import type { Settings } from '../options/options.ts';
import type { Transport } from '../wire/transport.ts';
import type { RunFeed } from './run-feed.ts';
import { END_NUMBER, formEventId } from './run-id.ts';
import { RunJournal } from './run-journal.ts';
import type { ChunkReader } from './run-service.ts';
import type { RunState } from './run-store.ts';

/** The limits of the ring. There is one for each run with readers, and older chunks are in the store. */
const RING_LIMITS: RingLimits = { entries: 1024, bytes: 262_144 };

/** What the logs of one router share. */
export interface SharedParts {
  readonly settings: Settings;
  readonly registry: Registry;
  readonly timer: SweepTimer;
  readonly counters: Counters;
  /** The value of `router` in diagnostics messages. */
  readonly router: object;
  /** Whether events carry ids. */
  readonly sendsIds: boolean;
  readonly chunks: ChunkReader;
  nextSerial(): number;
  idOf(serial: number): string;
  report(error: unknown, connection?: ServerConnection): void;
  onHeldBack(): void;
  /** Called when a log has no reader any more. */
  onUnread(log: RunLog): void;
}

export class RunLog implements ConnectionHost {
  completion: Completion = 'growing';
  readonly pendingSnapshots = undefined;
  readonly feed: RunFeed;
  readonly settings: Settings;
  readonly journal: RunJournal;
  readonly ring: Ring;
  readonly packets: PacketCache;
  readonly dispatcher: Dispatcher;
  readonly replayer: Replayer;
  readonly registry: Registry;
  readonly timer: SweepTimer;
  readonly counters: Counters;
  readonly groups = new SubscriberGroups<ServerConnection>();
  /** Until the end is in the ring, every answer is unfinished: a connection that ends earlier is broken off. */
  readonly producers = { has: () => this.completion === 'growing', add: () => {}, remove: () => {} };
  readonly #shared: SharedParts;
  readonly #readers = new Set<ServerConnection>();
  readonly #unsubscribe: () => void;

  constructor(feed: RunFeed, shared: SharedParts) {
    this.feed = feed;
    this.#shared = shared;
    this.settings = shared.settings;
    this.registry = shared.registry;
    this.timer = shared.timer;
    this.counters = shared.counters;
    this.journal = new RunJournal(feed, shared.chunks);
    this.ring = new Ring(RING_LIMITS, (a, b) => this.journal.compare(a, b));
    this.ring.fill(emptyWindowAt(formEventId(feed.run, feed.position)));
    this.packets = new PacketCache(this.ring, shared.sendsIds);
    this.dispatcher = new Dispatcher(this, (entries, ms) => this.#onDispatched(entries, ms));
    this.replayer = new Replayer(this);
    this.#unsubscribe = feed.subscribe({
      chunks: (first, chunks) => this.#onChunks(first, chunks),
      end: (state) => this.#onEnd(state),
    });
  }

  /** The connections that read the run here, open ones and connecting ones. */
  get readers(): ReadonlySet<ServerConnection> {
    return this.#readers;
  }

  /** Makes a connection that receives what follows the chunk with the number `after`. */
  admit(transport: Transport, request: ConnectionRequest, after: number): ServerConnection {
    const now = this.timer.refresh();
    const lastEventId = formEventId(this.feed.run, after);
    const connection = new ServerConnection(this, transport, { ...request, lastEventId }, this.#shared.nextSerial());
    connection.group = this.groups.assign(connection, undefined, []);
    this.#readers.add(connection);
    this.registry.addConnecting(connection);
    this.timer.wakeAt(connection.onSweep(now));
    connection.open();
    return connection;
  }

  /** Receives nothing more: there is no reader. */
  close(): void {
    this.#unsubscribe();
    this.replayer.close();
  }

  #onChunks(first: number, chunks: readonly Uint8Array[]): void {
    let bytes = 0;
    for (const entry of this.journal.entriesOf(first, chunks)) {
      bytes += entry.body.byteLength;
      this.ring.push(entry);
    }
    this.dispatcher.onAppended(bytes);
    this.replayer.onAppended();
  }

  #onEnd(state: RunState): void {
    const body = this.#shared.chunks.endOf(state);
    if (body !== undefined) this.ring.push({ id: formEventId(this.feed.run, END_NUMBER), body });
    this.completion = body === undefined && state.status !== 'done' ? 'cut' : 'whole';
    if (body !== undefined) this.dispatcher.onAppended(body.byteLength);
    this.replayer.onAppended();
    // An empty entry would be the last chunk of the body. Without an entry, no dispatch follows.
    if (this.dispatcher.dispatchedUpTo === this.ring.head) this.#endReaders();
  }

  #onDispatched(entries: number, ms: number): void {
    if (channels.handOut.hasSubscribers) channels.handOut.publish({ router: this.#shared.router, entries, ms });
    if (this.completion !== 'growing' && this.dispatcher.dispatchedUpTo === this.ring.head) this.#endReaders();
  }

  /** Ends the connections that have written everything. The others end when they have. */
  #endReaders(): void {
    void spreadCloses([...this.#readers], 0, (connection) => connection.onLogComplete());
  }

  // ---- A connection calls these (see `ConnectionHost`)

  onOpened(connection: ServerConnection): void {
    this.registry.markOpened(connection);
    publish(channels.open, this.#shared.router, connection as Connection);
    this.timer.wakeAt(connection.onSweep(this.timer.now));
  }

  onClosed(connection: ServerConnection, reason: CloseReason): void {
    this.groups.remove(connection, connection.group!);
    if (this.registry.markClosed(connection, reason))
      publish(channels.close, this.#shared.router, connection as Connection, reason);
    this.#readers.delete(connection);
    // A connection that still has bytes to write needs no further chunk: its limit is the head of the ring.
    if (this.#readers.size === 0) this.#shared.onUnread(this);
  }

  onOpenedAndClosed(connection: ServerConnection, reason: CloseReason): void {
    this.counters.opened++;
    this.counters.closed[reason]++;
    publish(channels.open, this.#shared.router, connection as Connection);
    publish(channels.close, this.#shared.router, connection as Connection, reason);
  }

  /** (Readers join no channels.) */
  onChannelsChanged(): void {}

  onReset(connection: ServerConnection, reason: ResetReason, lastEventId: string): void {
    publish(channels.reset, this.#shared.router, connection as Connection, reason, lastEventId);
  }

  onLateJoin(): void {}

  onHeldBack(): void {
    this.#shared.onHeldBack();
  }

  idOf(serial: number): string {
    return this.#shared.idOf(serial);
  }

  report(error: unknown, connection?: ServerConnection): void {
    this.#shared.report(error, connection);
  }
}

function emptyWindowAt(floor: string): JournalWindow {
  return { floor, entries: [] };
}
