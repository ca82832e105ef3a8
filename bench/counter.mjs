// Counts the events of each connection, and checks that each event arrives once and in order.
// Invariant: an event counts only if its number is the next one and a blank line ends it.
//
// A line parser per socket would need more CPU time than the server. This one reads byte by byte, skips the filler, and keeps
// three numbers per connection in typed arrays.

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
  #hasGaps;
  #first = '';

  events = 0;
  faults = 0;
  /** Called as `(connection, seq)` after each event that was in order. */
  onEvent = undefined;

  /** `hasGaps`: the numbers only have to grow, because each connection receives some of the events. */
  constructor(connections, { skip = 0, seen = 0, hasGaps = false } = {}) {
    this.#hasGaps = hasGaps;
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

  /** Prepares for a new response on connection `i`: the parser forgets an incomplete event, and keeps the last number. */
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
    if (this.#hasGaps ? value < expected : value !== expected) {
      if (this.faults++ === 0) this.#first = `connection ${i}: event ${value} instead of ${expected}`;
      return;
    }
    this.#seq[i] = value;
    this.events++;
    this.onEvent?.(i, value);
  }

  /** Returns how many of the connections have not received all events up to `last`. */
  behind(connections, last) {
    let count = 0;
    for (let i = 0; i < connections; i++) if (this.#seq[i] < last) count++;
    return count;
  }
}
