/*
 * What a connection says of its own and could not write yet, in order with what is broadcast.
 * Knows nothing of any other room.
 * Invariant: words leave in the order in which they were said, each after the entries that were in the ring by then.
 */

/** Words, and the n of the entry after which they come; 0: before everything. */
interface OutboxItem {
  at: number;
  readonly text: string | Buffer;
}

export class Outbox {
  #text = ''; // of this turn: joined, it leaves in one write
  #at = 0;
  #queue: OutboxItem[] | undefined; // what came before it
  #queued = 0;

  /** How much waits here: exact bytes for what was {@link seal | shelved}, UTF-16 units for this turn's. */
  get size(): number {
    return this.#queued + this.#text.length;
  }

  /** The n after which the next words come; `undefined` when there are none. */
  get nextPosition(): number | undefined {
    return this.#queue ? this.#queue[0]!.at : this.#text === '' ? undefined : this.#at;
  }

  add(text: string, at: number): void {
    if (this.#text !== '' && this.#at !== at) this.#move(this.#text);
    this.#at = at;
    this.#text += text;
  }

  /** Puts these before all others, but behind what was put there earlier. */
  addFirst(text: string): void {
    const queue = (this.#queue ??= []);
    const behind = queue.findIndex((piece) => piece.at > 0);
    queue.splice(behind === -1 ? queue.length : behind, 0, { at: 0, text });
    this.#queued += text.length;
  }

  /** What was said first now comes before every entry. */
  moveToFront(): void {
    if (this.#queue) this.#queue[0]!.at = 0;
    else this.#at = 0;
  }

  /** No entry after `n` is to be waited for. */
  truncate(n: number): void {
    for (const piece of this.#queue ?? []) piece.at = Math.min(piece.at, n);
    this.#at = Math.min(this.#at, n);
  }

  /** The end of a turn in which they could not leave: from here on they are counted as bytes. */
  seal(): void {
    if (this.#text !== '') this.#move(Buffer.from(this.#text));
  }

  /** Takes the next. There must be some. */
  take(): string | Buffer {
    if (this.#queue) {
      const { text } = this.#queue.shift() as OutboxItem;
      if (this.#queue.length === 0) this.#queue = undefined;
      this.#queued -= text.length;
      return text;
    }
    const text = this.#text;
    this.#text = '';
    return text;
  }

  #move(text: string | Buffer): void {
    (this.#queue ??= []).push({ at: this.#at, text });
    this.#queued += text.length;
    this.#text = '';
  }
}
