/*
 * The connections of one router by their state, and the sweep that checks each of them.
 * Invariant: between two calls, a connection is in at most one of connecting, open and closing, and in none of them once its response
 * has closed.
 */

import type { CloseReason } from '../api/connection.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { Counters } from '../diagnostics/stats.ts';
import { addTo, ReadOnlySet, removeFrom } from '../fanout/read-only-set.ts';
import type { Sweep, SweepTimer } from './sweep-timer.ts';

/** How long a closing connection may take to send what is due, before its socket is destroyed. */
const CLOSE_TIMEOUT_MS = 1000;
/** How long a sweep may hold the event loop. */
const MAX_SLICE_MS = 10;
/** How many connections are checked between two readings of the clock. */
const CHECKS_PER_YIELD = 64;

/** How many connections a router admits. */
export interface ConnectionLimits {
  readonly connections: number;
  readonly perClient: number;
}

export class Registry {
  readonly open = new ReadOnlySet<ServerConnection>();
  readonly #limits: ConnectionLimits;
  readonly #counters: Counters;
  readonly #timer: Pick<SweepTimer, 'read' | 'wakeAt'>;
  readonly #connecting = new Set<ServerConnection>();
  readonly #closing = new Set<ServerConnection>();
  readonly #behind = new Set<ServerConnection>();
  /** The number of connections per client, where that is limited. */
  readonly #clients = new Map<string, number>();
  /** Requests that will be connections: see {@link reserve}. */
  #reserved = 0;
  #onEmpty: (() => void) | undefined;
  /** A sweep that has not reached its end. (A Set's iterator continues although the Set changes.) */
  #sweeping: { readonly connections: Iterator<ServerConnection>; next: number; checked: number } | undefined;

  constructor(limits: ConnectionLimits, counters: Counters, timer: Pick<SweepTimer, 'read' | 'wakeAt'>) {
    this.#limits = limits;
    this.#counters = counters;
    this.#timer = timer;
  }

  /** How many connections count for the limits: those that are open, those whose handler runs, and those that are reserved. */
  get admitted(): number {
    return this.open.size + this.#connecting.size + this.#reserved;
  }

  get gauges(): { connections: number; connecting: number; behind: number; bufferedBytes: number } {
    let bufferedBytes = 0;
    for (const connection of this.#behind) bufferedBytes += connection.bufferedBytes;
    const connecting = this.#connecting.size + this.#reserved;
    return { connections: this.open.size, connecting, behind: this.#behind.size, bufferedBytes };
  }

  /** The connection that has been connecting for the longest time. */
  get oldestConnecting(): ServerConnection | undefined {
    return this.#connecting.values().next().value;
  }

  /** Yields every connection that counts for the limits. */
  *all(): Generator<ServerConnection> {
    yield* this.#connecting;
    yield* this.open;
  }

  /** Yields also the connections that are closed for the application but have bytes to send, or have not opened yet. */
  *allWithClosing(): Generator<ServerConnection> {
    yield* this.all();
    yield* this.#closing;
  }

  /** The limit that this client's next connection would exceed, if there is one. */
  limitReached(client: string | undefined): 'connections' | 'perClient' | undefined {
    if (this.admitted >= this.#limits.connections) return 'connections';
    if (client === undefined) return undefined;
    return (this.#clients.get(client) ?? 0) >= this.#limits.perClient ? 'perClient' : undefined;
  }

  /**
   * Counts a request for the limits before its connection is made. @returns the function that ends that, to be called once: directly
   * before {@link addConnecting} or after it, in the same tick, or instead of it
   */
  reserve(client: string | undefined): () => void {
    this.#reserved++;
    this.#addClient(client);
    return () => {
      this.#reserved--;
      this.#removeClient(client);
      this.#notifyIfEmpty();
    };
  }

  addConnecting(connection: ServerConnection): void {
    this.#addClient(connection.client);
    this.#connecting.add(connection);
  }

  markOpened(connection: ServerConnection): void {
    this.#connecting.delete(connection);
    addTo(this.open, connection);
    this.#counters.opened++;
  }

  setBehind(connection: ServerConnection, isBehind: boolean): void {
    if (isBehind) this.#behind.add(connection);
    else this.#behind.delete(connection);
  }

  /** Sets the deadline of a connection's close. */
  addClosing(connection: ServerConnection): void {
    const deadline = this.#timer.read() + CLOSE_TIMEOUT_MS;
    connection.closing!.deadline = deadline;
    this.#closing.add(connection);
    this.#timer.wakeAt(deadline);
  }

  /** Frees the connection's place in the limits. @returns whether it was open */
  markClosed(connection: ServerConnection, reason: CloseReason): boolean {
    this.#behind.delete(connection);
    this.#connecting.delete(connection);
    this.#removeClient(connection.client);
    const wasOpen = removeFrom(this.open, connection);
    if (wasOpen) this.#counters.closed[reason]++;
    this.#notifyIfEmpty();
    return wasOpen;
  }

  /** The connection's response has closed. */
  removeClosing(connection: ServerConnection): void {
    this.#closing.delete(connection);
    this.#notifyIfEmpty();
  }

  /** Resolves when no connection is left, closing ones included. */
  whenEmpty(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
      this.#notifyIfEmpty();
    });
  }

  #addClient(client: string | undefined): void {
    if (client !== undefined) this.#clients.set(client, (this.#clients.get(client) ?? 0) + 1);
  }

  #removeClient(client: string | undefined): void {
    if (client === undefined) return;
    const count = this.#clients.get(client) ?? 0;
    if (count > 1) this.#clients.set(client, count - 1);
    else this.#clients.delete(client);
  }

  #notifyIfEmpty(): void {
    if (this.#onEmpty && this.admitted === 0 && this.#closing.size === 0) this.#onEmpty();
  }

  /**
   * Does what is due for each connection: heartbeats, `maxAge`, slow clients, close deadlines. A sweep that takes too long continues
   * where it stopped, after the event loop has run. If it began again, it would never reach the last of many connections.
   * @param next When something else of the hub is due.
   */
  sweep(now: number, next: number): Sweep {
    const start = performance.now();
    const nextDeadline = Math.min(next, this.#sweepClosing(now));
    const sweep = (this.#sweeping ??= { connections: this.all(), next: Infinity, checked: 0 });
    for (let step = sweep.connections.next(); !step.done; step = sweep.connections.next()) {
      const connection = step.value;
      try {
        sweep.next = Math.min(sweep.next, connection.onSweep(now));
      } catch (error) {
        connection.onTransportError(error);
      }
      if (++sweep.checked % CHECKS_PER_YIELD === 0 && performance.now() - start > MAX_SLICE_MS) {
        return { next: now, checked: 0 };
      }
    }
    this.#sweeping = undefined;
    this.#notifyIfEmpty();
    return { next: Math.min(sweep.next, nextDeadline), checked: sweep.checked };
  }

  /** Completes or aborts the closes whose deadline has passed. @returns the next deadline */
  #sweepClosing(now: number): number {
    let next = Infinity;
    for (const connection of this.#closing) {
      const { deadline } = connection.closing!;
      if (now < deadline) next = Math.min(next, deadline);
      else if (connection.closeNow()) this.addClosing(connection);
      else connection.abandonClose();
    }
    return next;
  }
}
