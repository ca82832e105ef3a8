/*
 * Own pushes of one connection that could not be written yet, in order with the broadcasts.
 * Invariant: pushes leave in the order in which they were made, each after the entries that were in the ring by then.
 */

/** Text, and the n of the entry that it follows; 0: it precedes every entry. */
interface OutboxItem {
  after: number;
  readonly text: string | Buffer;
}

export class Outbox {
  #text = ''; // of this tick: joined, it leaves in one write
  #after = 0;
  #sealed: OutboxItem[] | undefined; // what precedes it
  #sealedSize = 0;

  /** The size of everything: exact bytes for what was {@link seal | sealed}, UTF-16 units for this tick's text. */
  get size(): number {
    return this.#sealedSize + this.#text.length;
  }

  /** The n of the entry that the next text follows; `undefined` when there is none. */
  get nextPosition(): number | undefined {
    return this.#sealed ? this.#sealed[0]!.after : this.#text === '' ? undefined : this.#after;
  }

  add(text: string, after: number): void {
    if (this.#text !== '' && this.#after !== after) this.#push(this.#text);
    this.#after = after;
    this.#text += text;
  }

  /** Puts text in front of everything except earlier text that was put there. */
  addFirst(text: string): void {
    const items = (this.#sealed ??= []);
    const index = items.findIndex(({ after }) => after > 0);
    items.splice(index === -1 ? items.length : index, 0, { after: 0, text });
    this.#sealedSize += text.length;
  }

  /** Makes the next text precede every entry. */
  moveToFront(): void {
    if (this.#sealed) this.#sealed[0]!.after = 0;
    else this.#after = 0;
  }

  /** Makes no text wait for an entry after `n`: the log has lost those. */
  truncate(n: number): void {
    for (const item of this.#sealed ?? []) item.after = Math.min(item.after, n);
    this.#after = Math.min(this.#after, n);
  }

  /** Ends the tick: text that could not be written counts as bytes from here on. */
  seal(): void {
    if (this.#text !== '') this.#push(Buffer.from(this.#text));
  }

  /** Takes the next text. There must be one. */
  take(): string | Buffer {
    if (this.#sealed) {
      const { text } = this.#sealed.shift() as OutboxItem;
      if (this.#sealed.length === 0) this.#sealed = undefined;
      this.#sealedSize -= text.length;
      return text;
    }
    const text = this.#text;
    this.#text = '';
    return text;
  }

  #push(text: string | Buffer): void {
    (this.#sealed ??= []).push({ after: this.#after, text });
    this.#sealedSize += text.length;
    this.#text = '';
  }
}
