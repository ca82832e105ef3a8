// Counts events per connection and proves that each came once and in order.
// May know: nothing of HTTP or of a peer. Keeps: an event counts only when its number is the next and a blank line ended it.
//
// A line parser per socket would cost the client more than the server spends. This one reads a byte at a time in typed
// arrays, skips the filler, and holds three numbers per connection.

const TILDE = 0x7e;
const LF = 0x0a;
const digits = 8;
const inData = digits + 1;
const afterLine = inData + 1;

export class Counter {
  /** The last sequence number that each connection has completed. */
  #seq;
  #state;
  #value;
  #skip;
  #first = '';

  events = 0;
  faults = 0;
  /** Called as `(connection, seq)` after each event that was in order. */
  onEvent = undefined;

  constructor(connections, { skip = 0, seen = 0 } = {}) {
    this.#seq = new Int32Array(connections).fill(seen);
    this.#state = new Uint8Array(connections);
    this.#value = new Int32Array(connections);
    this.#skip = skip;
  }

  get firstFault() {
    return this.#first;
  }

  /** The last event that connection `i` has completed. */
  seq(i) {
    return this.#seq[i];
  }

  /** A connection that starts anew does not go on in the middle of an event; what it has seen stays. */
  restart(i) {
    this.#state[i] = 0;
  }

  feed(i, chunk) {
    let state = this.#state[i];
    let value = this.#value[i];
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (state === 0) {
        if (byte === TILDE) {
          state = 1;
          value = 0;
        }
      } else if (state < inData) {
        value = value * 10 + (byte - 0x30);
        if (++state === inData && at + this.#skip < chunk.length) at += this.#skip;
      } else if (state === inData) {
        if (byte === LF) state = afterLine;
      } else if (byte === LF) {
        state = 0;
        this.#event(i, value);
      } else {
        state = inData;
      }
    }
    this.#state[i] = state;
    this.#value[i] = value;
  }

  #event(i, value) {
    const expected = this.#seq[i] + 1;
    if (value !== expected) {
      if (this.faults++ === 0) this.#first = `connection ${i}: event ${value} where ${expected} was due`;
      return;
    }
    this.#seq[i] = value;
    this.events++;
    this.onEvent?.(i, value);
  }

  /** How many of `connections` have not got everything up to `last`. */
  behind(connections, last) {
    let count = 0;
    for (let i = 0; i < connections; i++) if (this.#seq[i] < last) count++;
    return count;
  }
}
