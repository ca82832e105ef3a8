/*
 * Who is here: connecting, open, leaving, behind; how many of whom; and what has been counted.
 * Knows lives, the clock and the counters.
 * Invariant: a life is in at most one of connecting, open and leaving, and in none of them once its response is done with.
 */

import { put, take, View } from '../fanout/read-only-set.ts';
import { Clock } from './sweep-timer.ts';
import type { CloseReason } from '../api/connection.ts';
import type { Stream } from '../connection/server-connection.ts';
import type { Counters } from '../diagnostics/stats.ts';

/** What is still to be taken when a stream ends has this long, before its socket is destroyed: milliseconds. */
const LAST_SECOND = 1000;
/** How long one look at all connections may hold the event loop: milliseconds. */
const SLICE = 10;

/** How many may be here. */
export interface Room {
  readonly connections: number;
  readonly perClient: number;
}

export class Registry {
  readonly open = new View<Stream>();
  readonly clock: Clock;
  readonly #room: Room;
  readonly #counters: Counters;
  readonly #connecting = new Set<Stream>();
  readonly #leaving = new Map<Stream, number>(); // ended, and until when that may take
  readonly #behind = new Set<Stream>();
  readonly #clients = new Map<string, number>(); // places per client, where they are limited
  #onEmpty: (() => void) | undefined;
  /** A look at everybody that has not come to its end. (A Set's iterator bears that the set changes.) */
  #round: { readonly streams: Iterator<Stream>; next: number; looked: number } | undefined;

  /** `onLook` is called before anything is looked at, and answers when it has something due itself. */
  constructor(room: Room, counters: Counters, onLook: (now: number) => number) {
    this.#room = room;
    this.#counters = counters;
    this.clock = new Clock((now) => this.#look(now, onLook(now)));
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
  *all(): Generator<Stream> {
    yield* this.#connecting;
    yield* this.open;
  }

  /** Those too that are over and have not had their last word: who was ended before it had begun, or waits for its snapshot. */
  *unfinished(): Generator<Stream> {
    yield* this.all();
    yield* this.#leaving.keys();
  }

  /** Why this client gets no place, if it gets none. */
  full(client: string | undefined): 'connections' | 'perClient' | undefined {
    if (this.admitted >= this.#room.connections) return 'connections';
    if (client === undefined) return undefined;
    return (this.#clients.get(client) ?? 0) >= this.#room.perClient ? 'perClient' : undefined;
  }

  connecting(stream: Stream): void {
    if (stream.client !== undefined) this.#clients.set(stream.client, (this.#clients.get(stream.client) ?? 0) + 1);
    this.#connecting.add(stream);
  }

  opened(stream: Stream): void {
    this.#connecting.delete(stream);
    put(this.open, stream);
    this.#counters.opened++;
  }

  behind(stream: Stream, is: boolean): void {
    if (is) this.#behind.add(stream);
    else this.#behind.delete(stream);
  }

  /** Its end is on its way, and has its time. */
  leaving(stream: Stream): void {
    const until = this.clock.now() + LAST_SECOND;
    this.#leaving.set(stream, until);
    this.clock.due(until);
  }

  /** It gives up its place. @returns whether it was open */
  over(stream: Stream, reason: CloseReason): boolean {
    this.#behind.delete(stream);
    this.#connecting.delete(stream);
    if (stream.client !== undefined) {
      const places = this.#clients.get(stream.client) ?? 0;
      if (places > 1) this.#clients.set(stream.client, places - 1);
      else this.#clients.delete(stream.client);
    }
    const wasOpen = take(this.open, stream);
    if (wasOpen) this.#counters.closed[reason]++;
    this.#rest();
    return wasOpen;
  }

  /** Its response is done with. */
  finished(stream: Stream): void {
    this.#leaving.delete(stream);
    this.#rest();
  }

  /** Resolves when nobody is left, not even one who is being ended. */
  empty(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
      this.#rest();
    });
  }

  #rest(): void {
    if (this.#onEmpty && this.admitted === 0 && this.#leaving.size === 0) this.#onEmpty();
  }

  /**
   * Does what is due: heartbeats, ages, the slow, those who may not take longer to end. A look that takes too long goes on where
   * it stopped once others have had their turn: begun anew, it would never reach the last of many.
   */
  #look(now: number, due: number): { next: number; looked: number } {
    const start = performance.now();
    let leaving = due;
    for (const [stream, until] of this.#leaving) {
      if (now < until) leaving = Math.min(leaving, until);
      else if (stream.hurry()) this.leaving(stream);
      else {
        this.#leaving.delete(stream);
        stream.outlet.destroy();
      }
    }
    const round = (this.#round ??= { streams: this.all(), next: Infinity, looked: 0 });
    for (let step = round.streams.next(); !step.done; step = round.streams.next()) {
      const stream = step.value;
      try {
        round.next = Math.min(round.next, stream.tick(now));
      } catch (error) {
        stream.broken(error);
      }
      if (++round.looked % 64 === 0 && performance.now() - start > SLICE) return { next: now, looked: 0 };
    }
    this.#round = undefined;
    this.#rest();
    return { next: Math.min(round.next, leaving), looked: round.looked };
  }
}
