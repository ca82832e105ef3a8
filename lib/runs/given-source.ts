/*
 * The sources that the application passes to `start()`: a function that makes a source, or the source itself.
 * Invariant: a source that no run iterates is released, as a source that is made too late. While one call may still use a source, or a
 * run iterates over it, another call that passes the same object does not release it.
 */

import { iterate } from '../connection/source-iterator.ts';
import { handleRejection } from '../validation/validate.ts';
import type { RunSource } from './api.ts';
import type { MakeSource } from './production.ts';

/** The sources of one router. */
export class GivenSources<C> {
  /** The calls that have not released their source. The run of a call that began one keeps it. */
  readonly #uses = new WeakMap<object, number>();

  /** Returns what makes the source of a run, for one call. Its `release` releases a source that is there already. */
  makerOf(source: unknown): MakeSource<C> {
    if (typeof source === 'function') {
      const make = source as MakeSource<C>;
      return (run) => make(run);
    }
    const maker = (): RunSource<C> => source as RunSource<C>;
    if (typeof source !== 'object' || source === null) return maker;
    handleRejection(source); // it is read in a later tick
    this.#uses.set(source, (this.#uses.get(source) ?? 0) + 1);
    let isUsed = true;
    const release = (): void => {
      if (!isUsed) return;
      isUsed = false;
      const others = this.#uses.get(source)! - 1;
      this.#uses.set(source, others);
      if (others === 0) releaseSource(source);
    };
    return Object.assign(maker, { release });
  }
}

/** Resolves or rejects as a call of `start()` does. If that call begins no run, its source is released. */
export async function releasingUnused<C, T extends { readonly started: boolean }>(
  make: MakeSource<C>,
  starting: Promise<T>,
): Promise<T> {
  try {
    const result = await starting;
    if (!result.started) make.release?.();
    return result;
  } catch (error) {
    make.release?.();
    throw error;
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
