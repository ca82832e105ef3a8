/*
 * How a connection begins: new, resumed, or told that its past is gone; and what becomes of it when the log loses writes.
 * Knows its cursor, frames and words; its hub only as what it asks of it.
 * Invariant: a client is resumed from an id that is in the log, or is sent a `reset`; it is never left with a silent gap.
 */

import { Cursor } from './delivery.ts';
import { checkpoint, HEARTBEAT, reset, withPosition } from '../wire/event-stream.ts';
import type { Lodge } from './host.ts';
import type { Entry, ResetReason } from '../journal/journal.ts';
import { Words } from './outbox.ts';

export abstract class Reader extends Cursor {
  declare readonly hub: Lodge;
  #hasBegun = false; // its first words have been made
  #asked = 0; // counts what makes an answer on its way stale

  abstract readonly lastEventId: string;
  protected abstract readonly hasSnapshot: boolean;
  /** The state for who is new or cannot be resumed, as frames. */
  protected abstract snapshot(): string | Promise<string>;
  /** Something went wrong after the opening. */
  abstract fail(error: unknown): void;
  protected abstract onReset(reason: ResetReason, lastEventId: string): void;

  /** Its end, at once. */
  abstract cut(reason: 'slow'): void;

  protected fellOff(): void {
    if (!this.hub.resumable) return this.cut('slow'); // there is no log to go on from
    this.#waitForScan();
  }

  /** What comes before everything else is said first, or the scan would overtake it: a reset, and what follows it. */
  #waitForScan(): void {
    if (!this.held) this.#sayFirst();
    this.hub.catchUp.wait(this);
  }

  /** What comes before everything else does so also where what follows must be fetched from the log. */
  #sayFirst(): void {
    while (!this.blocked && this.words?.due !== undefined && this.words.due <= this.cursor) {
      if (!this.write(this.nextWords()) && this.outlet.waiting > 0) this.block();
    }
  }

  /** The first words, once the head is out. `lastEventId`: the id to resume from, if it is one of the journal's. */
  protected begin(lastEventId: string | undefined): void {
    this.words?.hoist(); // what was pushed before the opening comes before everything else
    this.phase = 'ring';
    const { ring, resumable } = this.hub;
    if (!resumable) this.cursor = Math.max(this.cursor, ring.first - 1); // it has seen nothing yet: it begins where it can
    if (lastEventId !== undefined) {
      this.held = true;
      this.resume(lastEventId);
    } else if (this.hasSnapshot) this.#restate(undefined, '');
    else if (resumable && !this.own) this.#release((words) => withPosition(words, this.at));
    else this.pump();
  }

  /** Goes on after this id, wherever that is. */
  resume(id: string): void {
    const { ring, journal, catchUp } = this.hub;
    this.at = id;
    this.#asked++;
    const n = ring.find(id);
    if (n !== undefined) this.proceed(n);
    else if (journal.compare(id, ring.headId) > 0) catchUp.ahead(this);
    else this.#waitForScan();
  }

  /** Its id is in the ring, at `n`; `told`: the n of the last id that its client has. */
  proceed(n: number, told: number = n): void {
    this.cursor = n;
    this.told = told;
    this.phase = 'ring';
    if (this.held) this.verified();
    else this.pump();
  }

  /** Its id is in the log: what was held may go, and what was missed follows. */
  verified(): void {
    if (!this.held) return;
    this.hub.counters.resumes.resumed++;
    this.#release((words) => words);
  }

  /** What it missed is gone: says so, and starts anew at the head. */
  reset(reason: ResetReason, lastEventId: string = this.at): void {
    if (this.phase === 'closed' || this.phase === 'connecting') return; // who has not begun finds out for itself
    this.hub.counters.resumes[reason]++;
    this.#restate(reason, lastEventId);
    this.onReset(reason, lastEventId);
  }

  /** The ring is another, and nothing of the one before is known to be in the log. */
  restarted(reason: ResetReason): void {
    if (!this.isInLog || (reason !== 'lost' && !this.shares)) return this.reset(reason);
    if (this.phase === 'parked') return; // it asks the log when it has drained
    this.hub.catchUp.drop(this); // it did not stand on the ring: its id may be good in the log as it is now
    this.resume(this.at);
  }

  /** The ring has been cut back to `n`: the entries in `gone` are not in the log. */
  truncated(n: number, gone: readonly Entry[]): void {
    const { ring, catchUp, journal } = this.hub;
    const common = ring.idAt(n) as string;
    this.words?.clamp(n);
    this.limit = Math.min(this.limit, n);
    this.clampLate(common);
    if (this.isInLog) {
      // Past the cut before it was noticed here, it may have been denied what is new there as older than its joining.
      if (!this.shares && journal.compare(this.at, common) > 0) return this.reset('diverged');
      if (this.phase === 'parked') return;
      catchUp.drop(this);
      return this.resume(this.at);
    }
    if (this.phase === 'closed' || this.cursor <= n) return;
    const seen = gone.slice(0, this.cursor - n);
    this.cursor = n;
    this.at = common;
    this.told = n;
    if (this.phase === 'connecting') return;
    const saw = this.changed > n || this.#cameWithIdAfter(common) || seen.some((entry) => this.wants(entry));
    if (this.held || saw) return this.reset('diverged', seen.at(-1)!.id);
    if (this.hub.resumable && !this.own) (this.words ??= new Words()).sayFirst(checkpoint(this.at)); // its last id may be gone
    this.pump();
  }

  /**
   * Whether the client brought an id of the log that is newer than `id`. An earlier connection, which may have joined other channels,
   * may have delivered any entry up to that id.
   */
  #cameWithIdAfter(id: string): boolean {
    const { journal, resumable } = this.hub;
    return resumable && journal.isId(this.lastEventId) && journal.compare(this.lastEventId, id) > 0;
  }

  /** It does not stand on the ring, but somewhere in the log. */
  protected get isInLog(): boolean {
    return this.phase === 'ahead' || this.phase === 'waiting' || this.phase === 'attached' || this.phase === 'parked';
  }

  /** Breaks the silence: with a checkpoint, if its channels were quiet, or its id would grow too old to resume. */
  protected beat(): void {
    this.pump();
    const { ring, resumable, counters } = this.hub;
    counters.heartbeats++;
    const isBehind = this.phase === 'live' && resumable && !this.own && this.told < ring.head;
    if (isBehind) this.told = ring.head;
    this.write(isBehind ? checkpoint(ring.headId) : HEARTBEAT);
  }

  /** Starts (anew) at the head, with the application's state if it has one to give. */
  #restate(reason: ResetReason | undefined, lastEventId: string): void {
    const { ring, catchUp } = this.hub;
    catchUp.drop(this);
    this.forgetLate();
    this.phase = 'ring';
    this.cursor = ring.head;
    this.at = ring.headId;
    this.told = this.cursor;
    this.held = true;
    const asked = ++this.#asked;
    const { at } = this;
    const say = (state: string): void =>
      this.#release((words) => {
        const position = this.hub.resumable && !this.own ? at : undefined; // the state may have brought an id of its own
        const opening = reason === undefined ? '' : reset(position, reason, lastEventId);
        if (position === undefined) return opening + state + words;
        if (reason === undefined) return withPosition(state + words, position);
        return opening + (state === '' ? '' : withPosition(state, position)) + words;
      });
    if (!this.hasSnapshot) return say('');
    const current = (): boolean => asked === this.#asked && this.phase !== 'closed';
    try {
      const state = this.snapshot();
      if (typeof state === 'string') return say(state);
      state.then((text) => current() && say(text)).then(undefined, (error: unknown) => current() && this.fail(error));
    } catch (error) {
      this.fail(error);
    }
  }

  /** Lets go of what was held; `frame` makes the first words out of those that were pushed before the opening. */
  #release(frame: (words: string) => string): void {
    this.held = false;
    const first = !this.#hasBegun && this.words?.due === 0 ? String(this.nextWords()) : '';
    this.#hasBegun = true;
    const text = frame(first);
    if (text !== '') (this.words ??= new Words()).sayFirst(text);
    if (this.phase === 'ring') this.pump();
    else this.#sayFirst();
  }
}
