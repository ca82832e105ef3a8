/*
 * A queue over one array: entries are added at the back and removed at either end.
 * Invariant: `shift` takes constant time on average. It clears the front slot and advances the start; the array is copied only
 * after half of it has been shifted out. `Array.prototype.shift` would move all remaining entries on each call.
 * Invariant: a removed entry is no longer referenced, so it can be garbage collected.
 */

const MIN_COMPACT_SLOTS = 1024; // cleared slots at the front that the array keeps before it is copied

/** A queue with access by index. */
export class Deque<T> {
  #items: (T | undefined)[] = [];
  #start = 0;

  get length(): number {
    return this.#items.length - this.#start;
  }

  /** Returns entry `index`, counted from the front. Does not check the index: one array access, for hot paths. */
  at(index: number): T | undefined {
    return this.#items[this.#start + index];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** Removes and returns the last entry. */
  pop(): T | undefined {
    return this.length > 0 ? this.#items.pop() : undefined;
  }

  /** Removes and returns the first entry. */
  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#start];
    this.#items[this.#start++] = undefined;
    // At least half of the array is cleared when it is copied, so each entry is moved once on average.
    if (this.#start > MIN_COMPACT_SLOTS && this.#start * 2 > this.#items.length) this.#compact();
    return item;
  }

  /** Adds these entries at the front, in their order. Copies the whole queue. */
  prepend(items: readonly T[]): void {
    this.#items = [...items, ...this.#items.slice(this.#start)];
    this.#start = 0;
  }

  clear(): void {
    this.#items = [];
    this.#start = 0;
  }

  #compact(): void {
    this.#items = this.#items.slice(this.#start);
    this.#start = 0;
  }
}
