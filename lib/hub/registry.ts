/*
 * Who is here: connecting, open, leaving, behind; how many of whom; and what has been counted.
 * Knows lives, the clock and the counters.
 * Invariant: a life is in at most one of connecting, open and leaving, and in none of them once its response is done with.
 */

import { addTo, removeFrom, ReadOnlySet } from '../fanout/read-only-set.ts';
import { SweepTimer } from './sweep-timer.ts';
import type { CloseReason } from '../api/connection.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { Counters } from '../diagnostics/stats.ts';

/** What is still to be taken when a stream ends has this long, before its socket is destroyed: milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;
/** How long one look at all connections may hold the event loop: milliseconds. */
const MAX_SLICE_MS = 10;

/** How many may be here. */
export interface ConnectionLimits {
  readonly connections: number;
  readonly perClient: number;
}

export class Registry {
  readonly open = new ReadOnlySet<ServerConnection>();
  readonly timer: SweepTimer;
  readonly #room: ConnectionLimits;
  readonly #counters: Counters;
  readonly #connecting = new Set<ServerConnection>();
  readonly #closing = new Map<ServerConnection, number>(); // ended, and until when that may take
  readonly #behind = new Set<ServerConnection>();
  readonly #clients = new Map<string, number>(); // places per client, where they are limited
  #onEmpty: (() => void) | undefined;
  /** A look at everybody that has not come to its end. (A Set's iterator bears that the set changes.) */
  #round: { readonly streams: Iterator<ServerConnection>; next: number; looked: number } | undefined;

  /** `onLook` is called before anything is looked at, and answers when it has something due itself. */
  constructor(room: ConnectionLimits, counters: Counters, onLook: (now: number) => number) {
    this.#room = room;
    this.#counters = counters;
    this.timer = new SweepTimer((now) => this.#look(now, onLook(now)));
  }

  /** How many have a place: those that are open, and those whose handler is at work. */
  get admitted(): number {
    return this.open.size + this.#connecting.size;
  }

  /** What is to be read off it now. */
  get gauges(): { connections: number; connecting: number; behind: number; bufferedBytes: number } {
    let bufferedBytes = 0;
    for (const stream of this.#behind) bufferedBytes += stream.bufferedBytes;
    return { connections: this.open.size, connecting: this.#connecting.size, behind: this.#behind.size, bufferedBytes };
  }

  /** Every stream that has a place. */
  *all(): Generator<ServerConnection> {
    yield* this.#connecting;
    yield* this.open;
  }

  /** Those too that are over and have not had their last word: who was ended before it had begun, or waits for its snapshot. */
  *allWithClosing(): Generator<ServerConnection> {
    yield* this.all();
    yield* this.#closing.keys();
  }

  /** Why this client gets no place, if it gets none. */
  limitReached(client: string | undefined): 'connections' | 'perClient' | undefined {
    if (this.admitted >= this.#room.connections) return 'connections';
    if (client === undefined) return undefined;
    return (this.#clients.get(client) ?? 0) >= this.#room.perClient ? 'perClient' : undefined;
  }

  addConnecting(stream: ServerConnection): void {
    if (stream.client !== undefined) this.#clients.set(stream.client, (this.#clients.get(stream.client) ?? 0) + 1);
    this.#connecting.add(stream);
  }

  markOpened(stream: ServerConnection): void {
    this.#connecting.delete(stream);
    addTo(this.open, stream);
    this.#counters.opened++;
  }

  setBehind(stream: ServerConnection, is: boolean): void {
    if (is) this.#behind.add(stream);
    else this.#behind.delete(stream);
  }

  /** Its end is on its way, and has its time. */
  addClosing(stream: ServerConnection): void {
    const until = this.timer.now() + CLOSE_TIMEOUT_MS;
    this.#closing.set(stream, until);
    this.timer.wakeAt(until);
  }

  /** It gives up its place. @returns whether it was open */
  markClosed(stream: ServerConnection, reason: CloseReason): boolean {
    this.#behind.delete(stream);
    this.#connecting.delete(stream);
    if (stream.client !== undefined) {
      const places = this.#clients.get(stream.client) ?? 0;
      if (places > 1) this.#clients.set(stream.client, places - 1);
      else this.#clients.delete(stream.client);
    }
    const wasOpen = removeFrom(this.open, stream);
    if (wasOpen) this.#counters.closed[reason]++;
    this.#notifyIfEmpty();
    return wasOpen;
  }

  /** Its response is done with. */
  removeClosing(stream: ServerConnection): void {
    this.#closing.delete(stream);
    this.#notifyIfEmpty();
  }

  /** Resolves when nobody is left, not even one who is being ended. */
  whenEmpty(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
      this.#notifyIfEmpty();
    });
  }

  #notifyIfEmpty(): void {
    if (this.#onEmpty && this.admitted === 0 && this.#closing.size === 0) this.#onEmpty();
  }

  /**
   * Does what is due: heartbeats, ages, the slow, those who may not take longer to end. A look that takes too long goes on where
   * it stopped once others have had their turn: begun anew, it would never reach the last of many.
   */
  #look(now: number, due: number): { next: number; looked: number } {
    const start = performance.now();
    let leaving = due;
    for (const [stream, until] of this.#closing) {
      if (now < until) leaving = Math.min(leaving, until);
      else if (stream.closeNow()) this.addClosing(stream);
      else {
        this.#closing.delete(stream);
        stream.transport.destroy();
      }
    }
    const round = (this.#round ??= { streams: this.all(), next: Infinity, looked: 0 });
    for (let step = round.streams.next(); !step.done; step = round.streams.next()) {
      const stream = step.value;
      try {
        round.next = Math.min(round.next, stream.onSweep(now));
      } catch (error) {
        stream.onTransportError(error);
      }
      if (++round.looked % 64 === 0 && performance.now() - start > MAX_SLICE_MS) return { next: now, looked: 0 };
    }
    this.#round = undefined;
    this.#notifyIfEmpty();
    return { next: Math.min(round.next, leaving), looked: round.looked };
  }
}
