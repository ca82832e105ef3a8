/*
 * A Set whose owner alone changes it, so that the application can iterate over live state.
 */

/** A set that only its owner changes, with {@link addTo} and {@link removeFrom}. */
export class ReadOnlySet<T> extends Set<T> {
  override add(): never {
    throw new TypeError('This set is read-only.');
  }
  override delete(): never {
    throw new TypeError('This set is read-only.');
  }
  override clear(): never {
    throw new TypeError('This set is read-only.');
  }
}

export function addTo<T>(view: ReadOnlySet<T>, value: T): void {
  Set.prototype.add.call(view, value);
}

export function removeFrom<T>(view: ReadOnlySet<T>, value: T): boolean {
  return Set.prototype.delete.call(view, value);
}
