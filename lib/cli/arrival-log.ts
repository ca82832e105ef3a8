/*
 * When things arrived on one connection, and what that looks like: silences, and gaps that came as a burst.
 * Knows nothing of any other room; times are milliseconds since the request, handed in.
 * Invariant: memory stays the same however long the stream lasts.
 */

/** When the milestones of a connection were reached, in milliseconds since the request. */
export interface Milestones {
  connected?: number;
  head?: number;
  firstByte?: number;
  firstEvent?: number;
}

/** Several events that came together after nothing had come for a while. */
export interface Burst {
  readonly silence: number;
  readonly events: number;
  readonly bytes: number;
}

/** Chunks less than this apart arrived together: one write may be several chunks, and a loaded machine reads them late. */
const TOGETHER = 25;
/** After less silence than this, events that come together may well have been sent together. */
const SILENCE = 1000;
/** Two may have been sent together; three, after a silence, hardly. */
const EVENTS = 3;

/** A record of one connection. */
export class Watch {
  readonly at: Milestones = {};
  events = 0;
  ids = 0;
  comments = 0;
  bytes = 0;
  /** How many gaps came as a burst, not counting what came with the opening. */
  bursts = 0;
  /** The one with the most events. */
  largest: Burst | undefined;
  /** Of events that came with the opening: a replay when it was quick, held back when it was not. */
  opening: Burst | undefined;
  /** How often two heartbeats or more came together: nobody sends them so. */
  bunched = 0;
  #longestSilence = 0;
  #lastByte = 0;
  #group = { silence: 0, events: 0, comments: 0, bytes: 0, first: true };

  chunk(now: number, bytes: number): void {
    this.bytes += bytes;
    const first = this.at.firstByte === undefined;
    if (first) this.at.firstByte = now;
    const silence = now - this.#lastByte;
    if (first || silence > TOGETHER) {
      this.#judge();
      this.#group = { silence, events: 0, comments: 0, bytes: 0, first };
    }
    this.#longestSilence = this.longestSilence(now);
    this.#lastByte = now;
    this.#group.bytes += bytes;
  }

  event(now: number, hasId: boolean): void {
    this.at.firstEvent ??= now;
    this.events++;
    if (hasId) this.ids++;
    this.#group.events++;
  }

  comment(text: string): void {
    this.comments++;
    if (text.trim() === '') this.#group.comments++;
  }

  /** The longest time without a byte since the head, the one that lasts at this moment included. */
  longestSilence(now: number): number {
    const since = Math.max(this.#lastByte, this.at.head ?? now);
    return Math.max(this.#longestSilence, now - since);
  }

  /** To be called when no more will come, for the last group to be judged. */
  end(now: number): void {
    this.#longestSilence = this.longestSilence(now);
    this.#judge();
  }

  #judge(): void {
    const { silence, events, bytes, comments, first } = this.#group;
    if (comments > 1) this.bunched++;
    this.#group.comments = 0;
    if (events < EVENTS || silence < SILENCE) return;
    const burst = { silence, events, bytes };
    this.#group.events = 0;
    if (first) this.opening = burst;
    else {
      this.bursts++;
      if (this.largest === undefined || events > this.largest.events) this.largest = burst;
    }
  }
}
