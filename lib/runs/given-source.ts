/*
 * The sources that the application passes to `start()`: a function that makes a source, or the source itself.
 * Invariant: a source that no run iterates is released, as a source that is made too late. A source that a run iterates is not released
 * by another call that passes the same object.
 */

import { iterate } from '../connection/source-iterator.ts';
import type { RunSource } from './api.ts';
import type { MakeSource } from './production.ts';

/** The sources of one router. */
export class GivenSources<C> {
  /** The sources of runs that have begun. */
  readonly #inUse = new WeakSet<object>();

  /** Returns what makes the source of a run. Its `release` releases a source that is there already. */
  makerOf(source: unknown): MakeSource<C> {
    if (typeof source === 'function') {
      const make = source as MakeSource<C>;
      return (run) => make(run);
    }
    const maker = (): RunSource<C> => source as RunSource<C>;
    return Object.assign(maker, { release: () => releaseSource(source) });
  }

  /** A run has begun that iterates over this source. */
  onStarted(source: unknown): void {
    if (typeof source === 'object' && source !== null) this.#inUse.add(source);
  }

  /** The call that passed this source has begun no run. */
  onUnused(source: unknown): void {
    if (typeof source === 'object' && source !== null && !this.#inUse.has(source)) releaseSource(source);
  }
}

function releaseSource(source: unknown): void {
  if (source instanceof Promise) {
    // Its rejection has no other handler, and would end the process.
    source.then(releaseSource).catch(ignore);
    return;
  }
  try {
    iterate(source, 'A source', '').release();
  } catch {
    // What cannot be iterated needs no release.
  }
}

function ignore(): void {
  // An error of a source that no run iterates has no meaning.
}
