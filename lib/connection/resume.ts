/*
 * How a connection begins: new, resumed, or told that its past is gone; and what becomes of it when the log loses writes.
 * Knows its cursor, frames and words; its hub only as what it asks of it.
 * Invariant: a client is resumed from an id that is in the log, or is sent a `reset`; it is never left with a silent gap.
 */

import { Cursor } from './delivery.ts';
import { checkpointEvent, HEARTBEAT, resetEvent, insertId } from '../wire/event-stream.ts';
import type { ResumeHost } from './host.ts';
import type { Entry, ResetReason } from '../journal/journal.ts';
import { Outbox } from './outbox.ts';

export abstract class Reader extends Cursor {
  declare readonly hub: ResumeHost;
  #started = false; // its first words have been made
  #startEpoch = 0; // counts what makes an answer on its way stale

  abstract readonly lastEventId: string;
  protected abstract readonly hasSnapshot: boolean;
  /** The state for who is new or cannot be resumed, as frames. */
  protected abstract snapshot(): string | Promise<string>;
  /** Something went wrong after the opening. */
  abstract closeWithError(error: unknown): void;
  protected abstract onReset(reason: ResetReason, lastEventId: string): void;

  /** Its end, at once. */
  abstract abort(reason: 'slow'): void;

  protected onOverrun(): void {
    if (!this.hub.resumable) return this.abort('slow'); // there is no log to go on from
    this.#waitForScan();
  }

  /** What comes before everything else is said first, or the scan would overtake it: a reset, and what follows it. */
  #waitForScan(): void {
    if (!this.preamblePending) this.#writeFirst();
    this.hub.replayer.enqueue(this);
  }

  /** What comes before everything else does so also where what follows must be fetched from the log. */
  #writeFirst(): void {
    while (!this.blocked && this.outbox?.nextPosition !== undefined && this.outbox.nextPosition <= this.cursor) {
      if (!this.write(this.takeOwn()) && this.transport.bufferedBytes > 0) this.onBlock();
    }
  }

  /** The first words, once the head is out. `lastEventId`: the id to resume from, if it is one of the journal's. */
  protected start(lastEventId: string | undefined): void {
    this.outbox?.moveToFront(); // what was pushed before the opening comes before everything else
    this.phase = 'ring';
    const { ring, resumable } = this.hub;
    if (!resumable) this.cursor = Math.max(this.cursor, ring.first - 1); // it has seen nothing yet: it begins where it can
    if (lastEventId !== undefined) {
      this.preamblePending = true;
      this.resumeAfter(lastEventId);
    } else if (this.hasSnapshot) this.#startAtHead(undefined, '');
    else if (resumable && !this.usesAppIds) this.#writePreamble((words) => insertId(words, this.cursorId));
    else this.writeDue();
  }

  /** Goes on after this id, wherever that is. */
  resumeAfter(id: string): void {
    const { ring, journal, replayer: catchUp } = this.hub;
    this.cursorId = id;
    this.#startEpoch++;
    const n = ring.find(id);
    if (n !== undefined) this.continueInRing(n);
    else if (journal.compare(id, ring.headId) > 0) catchUp.awaitAhead(this);
    else this.#waitForScan();
  }

  /** Its id is in the ring, at `n`; `told`: the n of the last id that its client has. */
  continueInRing(n: number, told: number = n): void {
    this.cursor = n;
    this.lastSent = told;
    this.phase = 'ring';
    if (this.preamblePending) this.confirmPosition();
    else this.writeDue();
  }

  /** Its id is in the log: what was held may go, and what was missed follows. */
  confirmPosition(): void {
    if (!this.preamblePending) return;
    this.hub.counters.resumes.resumed++;
    this.#writePreamble((words) => words);
  }

  /** What it missed is gone: says so, and starts anew at the head. */
  reset(reason: ResetReason, lastEventId: string = this.cursorId): void {
    if (this.phase === 'closed' || this.phase === 'connecting') return; // who has not begun finds out for itself
    this.hub.counters.resumes[reason]++;
    this.#startAtHead(reason, lastEventId);
    this.onReset(reason, lastEventId);
  }

  /** The ring is another, and nothing of the one before is known to be in the log. */
  onJournalRestart(reason: ResetReason): void {
    if (!this.isInLog || (reason !== 'lost' && !this.canSharePackets)) return this.reset(reason);
    if (this.phase === 'parked') return; // it asks the log when it has drained
    this.hub.replayer.remove(this); // it did not stand on the ring: its id may be good in the log as it is now
    this.resumeAfter(this.cursorId);
  }

  /** The ring has been cut back to `n`: the entries in `gone` are not in the log. */
  onJournalRewind(n: number, gone: readonly Entry[]): void {
    const { ring, replayer: catchUp, journal } = this.hub;
    const common = ring.idAt(n) as string;
    this.outbox?.truncate(n);
    this.limit = Math.min(this.limit, n);
    this.truncateMembership(common);
    if (this.isInLog) {
      // Past the cut before it was noticed here, it may have been denied what is new there as older than its joining.
      if (!this.canSharePackets && journal.compare(this.cursorId, common) > 0) return this.reset('diverged');
      if (this.phase === 'parked') return;
      catchUp.remove(this);
      return this.resumeAfter(this.cursorId);
    }
    if (this.phase === 'closed' || this.cursor <= n) return;
    const seen = gone.slice(0, this.cursor - n);
    this.cursor = n;
    this.cursorId = common;
    this.lastSent = n;
    if (this.phase === 'connecting') return;
    const saw = this.channelsChangedAt > n || this.#cameWithIdAfter(common) || seen.some((entry) => this.wants(entry));
    if (this.preamblePending || saw) return this.reset('diverged', seen.at(-1)!.id);
    if (this.hub.resumable && !this.usesAppIds) (this.outbox ??= new Outbox()).addFirst(checkpointEvent(this.cursorId)); // its last id may be gone
    this.writeDue();
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
  protected heartbeat(): void {
    this.writeDue();
    const { ring, resumable, counters } = this.hub;
    counters.heartbeats++;
    const isBehind = this.phase === 'live' && resumable && !this.usesAppIds && this.lastSent < ring.head;
    if (isBehind) this.lastSent = ring.head;
    this.write(isBehind ? checkpointEvent(ring.headId) : HEARTBEAT);
  }

  /** Starts (anew) at the head, with the application's state if it has one to give. */
  #startAtHead(reason: ResetReason | undefined, lastEventId: string): void {
    const { ring, replayer: catchUp } = this.hub;
    catchUp.remove(this);
    this.clearMembership();
    this.phase = 'ring';
    this.cursor = ring.head;
    this.cursorId = ring.headId;
    this.lastSent = this.cursor;
    this.preamblePending = true;
    const asked = ++this.#startEpoch;
    const { cursorId: at } = this;
    const say = (state: string): void =>
      this.#writePreamble((words) => {
        const position = this.hub.resumable && !this.usesAppIds ? at : undefined; // the state may have brought an id of its own
        const opening = reason === undefined ? '' : resetEvent(position, reason, lastEventId);
        if (position === undefined) return opening + state + words;
        if (reason === undefined) return insertId(state + words, position);
        return opening + (state === '' ? '' : insertId(state, position)) + words;
      });
    if (!this.hasSnapshot) return say('');
    const current = (): boolean => asked === this.#startEpoch && this.phase !== 'closed';
    try {
      const state = this.snapshot();
      if (typeof state === 'string') return say(state);
      state
        .then((text) => current() && say(text))
        .then(undefined, (error: unknown) => current() && this.closeWithError(error));
    } catch (error) {
      this.closeWithError(error);
    }
  }

  /** Lets go of what was held; `frame` makes the first words out of those that were pushed before the opening. */
  #writePreamble(frame: (words: string) => string): void {
    this.preamblePending = false;
    const first = !this.#started && this.outbox?.nextPosition === 0 ? String(this.takeOwn()) : '';
    this.#started = true;
    const text = frame(first);
    if (text !== '') (this.outbox ??= new Outbox()).addFirst(text);
    if (this.phase === 'ring') this.writeDue();
    else this.#writeFirst();
  }
}
