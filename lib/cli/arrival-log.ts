/*
 * Records when bytes and events arrived on one connection, and detects silences, bursts after a silence, and proofs of buffering.
 * All times are in milliseconds since the request; the caller passes them in.
 * Invariant: the memory is constant, however long the stream lasts.
 * Invariant: a burst alone proves nothing. An application may broadcast many events in one tick, and then one write sends them.
 */
import { EventBoundary } from './event-boundary.ts';

/** When a connection reached its milestones, in milliseconds since the request. */
export interface Milestones {
  connected?: number;
  head?: number;
  firstByte?: number;
  firstEvent?: number;
}

/** Several events that arrived together after a silence. */
export interface Burst {
  readonly silence: number;
  readonly events: number;
  readonly bytes: number;
}

/** Chunks less than this apart arrived together: one write may become several chunks, and a loaded machine reads them late. */
const SAME_GROUP_MS = 25;
/** A shorter silence is an ordinary delay of the network or of a loaded machine. */
const MIN_SILENCE_MS = 1000;
/** As many events together are worth a hint. */
const MIN_BURST_EVENTS = 3;

/** The record of one connection. */
export class ArrivalLog {
  readonly milestones: Milestones = {};
  events = 0;
  ids = 0;
  comments = 0;
  bytes = 0;
  /** Number of bursts after a silence, without {@link openingBurst}. */
  bursts = 0;
  /** The burst with the most events. */
  largestBurst: Burst | undefined;
  /** A burst that came with the first bytes, a second or more after the request. A replay that comes sooner is not recorded. */
  openingBurst: Burst | undefined;
  /** How often two or more heartbeats arrived together after a silence. No server sends them together. */
  bunchedHeartbeats = 0;
  /**
   * How often a group of several events ended within an event, and the rest of it came after a silence. Servers write whole
   * events; a buffer that is passed on when it is full ends anywhere. One time proves nothing: a lost packet has this effect too.
   */
  cutEvents = 0;
  #longestSilence = 0;
  #lastByte = 0;
  readonly #boundary = new EventBoundary();
  /** The chunks that arrived together, as far as they have arrived. */
  #group = { silence: 0, events: 0, heartbeats: 0, bytes: 0, isFirst: true };
  #isPaused = false;

  /** Records a chunk. Call it before {@link event} and {@link comment} for what the chunk contains. */
  chunk(now: number, bytes: Uint8Array): void {
    this.bytes += bytes.length;
    const isFirst = this.milestones.firstByte === undefined;
    if (isFirst) this.milestones.firstByte = now;
    const silence = now - this.#lastByte;
    if (isFirst || silence > SAME_GROUP_MS) {
      if (silence >= MIN_SILENCE_MS && this.#group.events >= MIN_BURST_EVENTS && this.#boundary.isWithinEvent)
        this.cutEvents++;
      this.#finishGroup();
      this.#group = { silence, events: 0, heartbeats: 0, bytes: 0, isFirst };
    }
    this.#longestSilence = this.longestSilence(now);
    this.#lastByte = now;
    this.#group.bytes += bytes.length;
    this.#boundary.feed(bytes);
  }

  /** Records that nothing is read from now on. The silence that follows is not that of the server. */
  pause(): void {
    this.#isPaused = true;
  }

  /** Records that reading continues. The bytes that waited arrive together, so they prove nothing about a proxy. */
  resume(now: number): void {
    this.#isPaused = false;
    this.#finishGroup();
    this.#group = { silence: 0, events: 0, heartbeats: 0, bytes: 0, isFirst: false };
    this.#lastByte = now;
  }

  /** Records an event. */
  event(now: number, hasId: boolean): void {
    this.milestones.firstEvent ??= now;
    this.events++;
    if (hasId) this.ids++;
    this.#group.events++;
  }

  /** Records a comment; an empty one is a heartbeat. */
  comment(text: string): void {
    this.comments++;
    if (text.trim() === '') this.#group.heartbeats++;
  }

  /** Returns the longest time without a byte since the head, including the current silence. */
  longestSilence(now: number): number {
    if (this.#isPaused) return this.#longestSilence;
    const since = Math.max(this.#lastByte, this.milestones.head ?? now);
    return Math.max(this.#longestSilence, now - since);
  }

  /** Evaluates the last group. Call it when nothing more will arrive. */
  end(now: number): void {
    this.#longestSilence = this.longestSilence(now);
    this.#finishGroup();
  }

  #finishGroup(): void {
    const { silence, events, bytes, heartbeats, isFirst } = this.#group;
    if (silence < MIN_SILENCE_MS) return;
    if (heartbeats > 1) this.bunchedHeartbeats++;
    this.#group.heartbeats = 0;
    if (events < MIN_BURST_EVENTS) return;
    const burst = { silence, events, bytes };
    this.#group.events = 0;
    if (isFirst) this.openingBurst = burst;
    else {
      this.bursts++;
      if (this.largestBurst === undefined || events > this.largestBurst.events) this.largestBurst = burst;
    }
  }
}
