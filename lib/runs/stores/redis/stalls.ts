/*
 * The times when this process did not reach Redis, or did not run.
 * Invariant: while a run's producer may have been unable to renew its lease for the same reason, the lease is not judged. After an
 * outage, every producer has one lease to renew. (Tried: without this, an outage of 3 s at a lease of 2 s ended running runs.)
 * Invariant: a reply is late only if Redis executed its command late, by Redis' clock. If this process only reads the reply late,
 * producers were able to renew. (Measured: in a process that was stopped, replies were read after 2.3 to 4 s, although Redis had
 * executed the commands within 0.1 s. By the time of the reply, each of them postponed all ends by another lease.)
 */

interface Stall {
  readonly at: Moment;
  /** How long it took, in milliseconds. */
  readonly ms: number;
}

/** A time on both clocks. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

const MAX_STALLS = 64;
const MIN_STALL_MS = 20; // most replies take less, and are not recorded

/** Records stalls, and whether the absence of a renewal is information about a producer. */
export class Stalls {
  readonly #stalls: Stall[] = [];
  /** The blocking reads that wait, with the time at which each must have its reply. */
  readonly #reads = new Map<object, Moment>();
  /** Redis' clock minus this process' monotonic clock, by the connection that measured it: the nodes of a cluster differ. */
  readonly #offsets = new Map<object, number>();

  /** The first connection is open, to a Redis that has been reachable for this time. */
  onOpened(reachableMs: number): void {
    const { monotonic, wall } = now();
    this.#stalls.push({ at: { monotonic: monotonic - reachableMs, wall: wall - reachableMs }, ms: Infinity });
  }

  /** A connection was lost or opened again: the time between is unknown. */
  onReconnect(): void {
    this.#add(Infinity);
  }

  /** A command was sent at `since` on the connection, has its reply now, and was executed at `executedAt` by Redis' clock. */
  onReply(connection: object, since: Moment, executedAt: number): void {
    const took = elapsed(since);
    const difference = executedAt - since.monotonic;
    // A fast reply compares the clocks, so a clock that is set, or that of another server, is noticed.
    const offset =
      took < MIN_STALL_MS ? difference : Math.min(this.#offsets.get(connection) ?? difference - took, difference);
    this.#offsets.set(connection, offset);
    this.#add(Math.min(took, difference - offset)); // the whole time bounds what a wrong comparison does
  }

  /** The reader sends a read that has its reply within `ms`. */
  onReadSent(reader: object, ms: number): void {
    const { monotonic, wall } = now();
    this.#reads.set(reader, { monotonic: monotonic + ms, wall: wall + ms });
  }

  /** The read has its reply, or its connection is lost. */
  onReadSettled(reader: object): void {
    const due = this.#reads.get(reader);
    if (due === undefined) return;
    this.#reads.delete(reader);
    this.#add(elapsed(due));
  }

  /**
   * Returns the milliseconds until the leases of this length may be judged; 0: now. Producers renew every third of a lease, so a
   * stall below half a lease has made no lease expire.
   */
  graceOf(lease: number): number {
    for (const due of this.#reads.values()) if (elapsed(due) > lease / 2) return lease;
    const newest = this.#stalls.findLast(({ ms }) => ms > lease / 2);
    return newest === undefined ? 0 : Math.max(0, lease - elapsed(newest.at));
  }

  #add(ms: number): void {
    if (ms < MIN_STALL_MS) return;
    // A later stall that is as long makes an earlier one irrelevant. So few are kept: each is shorter than the one before it.
    while (this.#stalls.length > 0 && this.#stalls.at(-1)!.ms <= ms) this.#stalls.pop();
    this.#stalls.push({ at: now(), ms });
    if (this.#stalls.length > MAX_STALLS) this.#stalls.shift();
  }
}

/** Returns the time now. */
export function now(): Moment {
  return { monotonic: performance.now(), wall: Date.now() };
}

/** Linux' monotonic clock stops while the machine sleeps, and the wall clock may be set back. So the larger of both counts. */
function elapsed(since: Moment): number {
  return Math.max(performance.now() - since.monotonic, Date.now() - since.wall);
}
