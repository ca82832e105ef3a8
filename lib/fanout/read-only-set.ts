/*
 * A Set that only the router changes, so that the application can iterate over live state without a copy.
 *
 * Invariant: the set's own methods never change it; only {@link addTo} and {@link removeFrom} do.
 */

const MESSAGE = 'The application must not change this set: only the router does. Change a copy: new Set(set).';

/** A Set whose methods `add`, `delete` and `clear` throw. */
export class ReadOnlySet<T> extends Set<T> {
  override add(): never {
    throw new TypeError(MESSAGE);
  }
  override delete(): never {
    throw new TypeError(MESSAGE);
  }
  override clear(): never {
    throw new TypeError(MESSAGE);
  }
}

/** Adds a value to a read-only set. */
export function addTo<T>(set: ReadOnlySet<T>, value: T): void {
  Set.prototype.add.call(set, value);
}

/** Removes a value from a read-only set. @returns Whether the set contained it. */
export function removeFrom<T>(set: ReadOnlySet<T>, value: T): boolean {
  return Set.prototype.delete.call(set, value);
}
