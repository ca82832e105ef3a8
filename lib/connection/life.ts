/*
 * The life of one response: its opening, its heartbeats, its slowness and its end.
 * Knows its reader and frames; its hub only as what it asks of it.
 * Invariants: nothing is written before the end of the turn in which it opens; it is over once, for one reason, and then for good.
 */

import type { CloseReason } from '../api/connection.ts';
import { type Phase, WRITE_BYTES } from './delivery.ts';
import { HEARTBEAT, retryLine } from '../wire/event-stream.ts';
import type { ResetReason } from '../journal/journal.ts';
import type { Outlet } from '../wire/transport.ts';
import { Reader } from './resume.ts';
import type { Admission, Home } from './host.ts';
import { headIsOut } from '../diagnostics/error-reporter.ts';
import { within } from '../options/delay-range.ts';

const UNREAD = -1; // until the end of the turn: node:http hands what it was given to the socket only then

export abstract class Life extends Reader {
  declare readonly hub: Home;
  readonly lastEventId: string;
  /** Who it counts as, where that is limited. */
  readonly client: string | undefined;
  readonly number: number;
  readonly since: number; // when it was admitted: the hub's milliseconds
  listed = false; // in the hub's list of who has something to say
  readonly #padding: string;
  #abort: AbortController | undefined;
  #reason: CloseReason | undefined;
  #farewell = '';
  #lingers = false; // over, and still owed what comes first: for its last second
  #expires: number; // 0: never
  #waiters: (() => void)[] | undefined;
  #stall: { taken: number; readonly since: number } | undefined;

  constructor(hub: Home, outlet: Outlet, admission: Admission, number: number) {
    super(hub, outlet);
    this.lastEventId = admission.lastEventId;
    this.client = admission.client;
    this.number = number;
    this.since = hub.now;
    this.#padding = admission.padding;
    // An id of another form is the application's, and so is resuming it.
    this.own = this.lastEventId !== '' && !hub.journal.isId(this.lastEventId);
    this.#expires = hub.settings.maxAge ? hub.now + within(hub.settings.maxAge) : 0;
  }

  /** Whether it is over, although its last bytes may still be on their way. */
  get isOver(): boolean {
    return this.#reason !== undefined;
  }

  protected get isBehind(): boolean {
    return this.blocked || (this.words !== undefined && this.words.size >= WRITE_BYTES);
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#reason !== undefined) this.#abort.abort(this.#reason);
    }
    return this.#abort.signal;
  }

  get readyState(): 'connecting' | 'open' | 'closed' {
    if (this.#reason !== undefined) return 'closed';
    return this.phase === 'connecting' ? 'connecting' : 'open';
  }

  drained(): Promise<void> {
    if (this.#reason !== undefined || !this.isBehind) return Promise.resolve();
    return new Promise((resolve) => (this.#waiters ??= []).push(resolve));
  }

  open(): void {
    if (this.#reason === undefined && this.phase === 'connecting') this.hub.soon(this);
  }

  /** Over, in order: what was said leaves first, then `farewell`, then the end of the body. */
  finish(reason: CloseReason, farewell = ''): void {
    if (this.#reason !== undefined) return;
    this.hub.registry.leaving(this);
    this.#farewell = farewell;
    this.limit = this.hub.ring.head;
    if (this.phase === 'connecting') this.hub.soon(this); // an exception in this turn may still turn it into an error's answer
    else this.#depart(reason);
    this.#over(reason);
  }

  /** Over, now: nothing more leaves. */
  cut(reason: CloseReason): void {
    if (this.#reason !== undefined) return;
    this.outlet.destroy();
    this.waive(reason);
  }

  /** The answer is somebody else's (the handler's own, or the error handler's), or nobody's. */
  waive(reason: CloseReason): void {
    this.phase = 'closed';
    this.#lingers = false;
    this.words = undefined;
    this.#over(reason);
    this.hub.registry.finished(this);
  }

  /** The response is done with, or its client has gone. */
  gone(): void {
    this.waive(this.phase === 'connecting' && this.outlet.answered ? 'handler' : 'client');
  }

  fail(error: unknown): void {
    this.hub.report(error, this);
    if (!this.hurry()) this.finish('error');
  }

  /** Its outlet threw, which only what others have put around a response does. */
  broken(error: unknown): void {
    this.hub.report(error, this);
    if (this.#reason === undefined) return this.cut('error');
    this.phase = 'closed'; // and its socket goes with its last second: what was written before may be on its way
    this.#lingers = false;
    this.hub.catchUp.drop(this);
  }

  /** The end of a turn in which it had something to say. */
  flush(): void {
    if (this.phase === 'closed') return;
    if (this.phase === 'connecting') {
      if (!this.#start()) return;
    } else {
      this.pump();
      this.words?.shelve();
      if (this.#stall?.taken === UNREAD) this.#stall.taken = this.outlet.taken;
    }
    if (this.#reason === undefined) this.#settle();
    else if (this.held) this.#lingers = true; // a verdict on its id, or a snapshot, is on its way
    else this.#depart(this.#reason);
  }

  /** Ends what lingers, without what it lingered for if that is not there yet. @returns whether its end is on its way now */
  hurry(): boolean {
    if (!this.#lingers || this.blocked) return false;
    this.#depart(this.#reason!, true);
    return true;
  }

  /** Looks whether something is due. @returns when it is to be looked at again */
  tick(now: number): number {
    const { heartbeat, slowTimeout } = this.hub.settings;
    const expires = this.#expires === 0 ? Infinity : this.#expires;
    if (now >= expires) {
      this.finish('expired');
      return Infinity;
    }
    if (this.phase === 'connecting') {
      if (now - this.lastWrite >= heartbeat) this.open();
      return Math.min(expires, this.lastWrite + heartbeat);
    }
    if (this.outlet.waiting > 0) {
      const { taken } = this.outlet;
      if (this.#stall?.taken !== taken) this.#stall = { taken, since: now };
      else if (now - this.#stall.since >= slowTimeout) this.cut('slow');
      return Math.min(expires, this.#stall.since + slowTimeout, now + this.#glance);
    }
    this.#stall = undefined;
    if (now - this.lastWrite >= heartbeat) this.beat();
    return Math.min(expires, this.lastWrite + heartbeat);
  }

  protected onBlocked(): void {
    if (this.#reason === undefined) this.hub.registry.behind(this, true);
    this.#stall = { taken: UNREAD, since: this.hub.now };
    this.hub.soon(this);
    this.hub.due(this.hub.now + this.#glance);
  }

  protected onDrained(): void {
    this.hub.registry.behind(this, false);
  }

  protected onLive(): void {
    if (!this.hurry()) this.#settle();
  }

  protected onReset(reason: ResetReason, lastEventId: string): void {
    this.hub.wasReset(this, reason, lastEventId);
  }

  /** How often who is behind is looked at: a reader that took its last byte just after a look is cut a quarter late. */
  get #glance(): number {
    return Math.ceil(Math.min(this.hub.settings.slowTimeout, this.hub.settings.heartbeat) / 4);
  }

  /** Writes the head. @returns false when there was nothing to write it to, or it is over already */
  #start(): boolean {
    const { answered } = this.outlet;
    if (answered) {
      if (answered === 'begun' && this.words) this.hub.report(headIsOut(), this);
      this.waive('handler');
      return false;
    }
    const { retry } = this.hub.settings;
    // Firefox fires `open` only at the first byte of the body. No blank line: @microsoft/fetch-event-source would report one.
    this.outlet.open(this.#padding + HEARTBEAT + (retry ? retryLine(within(retry)) : ''));
    this.lastWrite = this.hub.now;
    if (this.#reason === undefined) this.hub.opened(this);
    else this.hub.passed(this, this.#reason);
    this.begin(this.lastEventId !== '' && this.hub.resumable && !this.own ? this.lastEventId : undefined);
    this.outlet.flush();
    this.direct = this.outlet.direct;
    return (this.phase as Phase) !== 'closed'; // its own snapshot may have ended it
  }

  /**
   * Ends the body. Who is behind lingers first, unless it is `late`: what was broadcast before an `end()` would else be lost to a
   * client that does not come back.
   */
  #depart(reason: CloseReason, late = reason === 'error'): void {
    this.#lingers = false;
    try {
      this.pump();
      if (this.phase === 'ring' && !this.held) this.#lingers = !late && this.cursor < this.limit;
      else this.#lingers = !late && reason === 'end' && (this.held || this.isInLog);
      if (this.#lingers) return;
      this.sayTheRest();
      if (this.#farewell !== '') this.write(this.#farewell);
      this.hub.catchUp.drop(this);
      this.phase = 'closed';
      this.outlet.end(reason === 'shutdown');
    } catch (error) {
      this.broken(error); // nobody else's: it may be the hub's timer that ends it
    }
  }

  #over(reason: CloseReason): void {
    if (!this.#lingers) this.hub.catchUp.drop(this);
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.hub.over(this, reason);
    this.#abort?.abort(reason);
    this.#settle();
  }

  #settle(): void {
    if (this.#waiters === undefined || (this.#reason === undefined && this.isBehind)) return;
    const waiters = this.#waiters;
    this.#waiters = undefined;
    for (const resolve of waiters) resolve();
  }
}
