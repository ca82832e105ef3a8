/*
 * The life of one response: its opening, its heartbeats, its slowness and its end.
 * Knows its reader and frames; its hub only as what it asks of it.
 * Invariants: nothing is written before the end of the turn in which it opens; it is over once, for one reason, and then for good.
 */

import type { CloseReason } from '../api/connection.ts';
import { type DeliverySource, MAX_WRITE_BYTES } from './delivery.ts';
import { HEARTBEAT, retryLine } from '../wire/event-stream.ts';
import type { ResetReason } from '../journal/journal.ts';
import type { Transport } from '../wire/transport.ts';
import { Reader } from './resume.ts';
import type { ConnectionRequest, ConnectionHost } from './host.ts';
import { headIsOut } from '../diagnostics/error-reporter.ts';
import { randomDelay } from '../options/delay-range.ts';

const UNKNOWN = -1; // until the end of the turn: node:http hands what it was given to the socket only then

export abstract class Life extends Reader {
  declare readonly hub: ConnectionHost;
  readonly lastEventId: string;
  /** Who it counts as, where that is limited. */
  readonly client: string | undefined;
  readonly serial: number;
  readonly openedAt: number; // when it was admitted: the hub's milliseconds
  flushQueued = false; // in the hub's list of who has something to say
  readonly #padding: string;
  #abort: AbortController | undefined;
  #reason: CloseReason | undefined;
  #finalFrame = '';
  #closing = false; // over, and still owed what comes first: for its last second
  #expires: number; // 0: never
  #waiters: (() => void)[] | undefined;
  #stall: { taken: number; readonly since: number } | undefined;

  constructor(hub: ConnectionHost, outlet: Transport, admission: ConnectionRequest, number: number) {
    super(hub, outlet);
    this.lastEventId = admission.lastEventId;
    this.client = admission.client;
    this.serial = number;
    this.openedAt = hub.now;
    this.#padding = admission.padding;
    // An id of another form is the application's, and so is resuming it.
    this.usesAppIds = this.lastEventId !== '' && !hub.journal.isId(this.lastEventId);
    this.#expires = hub.settings.maxAge ? hub.now + randomDelay(hub.settings.maxAge) : 0;
  }

  /** Whether it is over, although its last bytes may still be on their way. */
  get isClosed(): boolean {
    return this.#reason !== undefined;
  }

  protected get isBehind(): boolean {
    return this.blocked || (this.outbox !== undefined && this.outbox.size >= MAX_WRITE_BYTES);
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
    if (this.#reason === undefined && this.phase === 'connecting') this.hub.scheduleFlush(this);
  }

  /** Over, in order: what was said leaves first, then `farewell`, then the end of the body. */
  beginClose(reason: CloseReason, farewell = ''): void {
    if (this.#reason !== undefined) return;
    this.hub.registry.addClosing(this);
    this.#finalFrame = farewell;
    this.limit = this.hub.ring.head;
    if (this.phase === 'connecting') this.hub.scheduleFlush(this); // an exception in this turn may still turn it into an error's answer
    else this.#completeClose(reason);
    this.#markClosed(reason);
  }

  /** Over, now: nothing more leaves. */
  abort(reason: CloseReason): void {
    if (this.#reason !== undefined) return;
    this.transport.destroy();
    this.abandon(reason);
  }

  /** The answer is somebody else's (the handler's own, or the error handler's), or nobody's. */
  abandon(reason: CloseReason): void {
    this.phase = 'closed';
    this.#closing = false;
    this.outbox = undefined;
    this.#markClosed(reason);
    this.hub.registry.removeClosing(this);
  }

  /** The response is done with, or its client has gone. */
  onResponseClosed(): void {
    this.abandon(this.phase === 'connecting' && this.transport.responseState ? 'handler' : 'client');
  }

  closeWithError(error: unknown): void {
    this.hub.report(error, this);
    if (!this.closeNow()) this.beginClose('error');
  }

  /** Its outlet threw, which only what others have put around a response does. */
  onTransportError(error: unknown): void {
    this.hub.report(error, this);
    if (this.#reason === undefined) return this.abort('error');
    this.phase = 'closed'; // and its socket goes with its last second: what was written before may be on its way
    this.#closing = false;
    this.hub.replayer.remove(this);
  }

  /** The end of a turn in which it had something to say. */
  flush(): void {
    if (this.phase === 'closed') return;
    if (this.phase === 'connecting') {
      if (!this.#start()) return;
    } else {
      this.writeDue();
      this.outbox?.seal();
      if (this.#stall?.taken === UNKNOWN) this.#stall.taken = this.transport.acceptedBytes;
    }
    if (this.#reason === undefined) this.#resolveDrained();
    else if (this.preamblePending) this.#closing = true; // a verdict on its id, or a snapshot, is on its way
    else this.#completeClose(this.#reason);
  }

  /** Ends what lingers, without what it lingered for if that is not there yet. @returns whether its end is on its way now */
  closeNow(): boolean {
    if (!this.#closing || this.blocked) return false;
    this.#completeClose(this.#reason!, true);
    return true;
  }

  /** Looks whether something is due. @returns when it is to be looked at again */
  onSweep(now: number): number {
    const { heartbeat, slowTimeout } = this.hub.settings;
    const expires = this.#expires === 0 ? Infinity : this.#expires;
    if (now >= expires) {
      this.beginClose('expired');
      return Infinity;
    }
    if (this.phase === 'connecting') {
      if (now - this.lastWrite >= heartbeat) this.open();
      return Math.min(expires, this.lastWrite + heartbeat);
    }
    if (this.transport.bufferedBytes > 0) {
      const { acceptedBytes: taken } = this.transport;
      if (this.#stall?.taken !== taken) this.#stall = { taken, since: now };
      else if (now - this.#stall.since >= slowTimeout) this.abort('slow');
      return Math.min(expires, this.#stall.since + slowTimeout, now + this.#sweepInterval);
    }
    this.#stall = undefined;
    if (now - this.lastWrite >= heartbeat) this.heartbeat();
    return Math.min(expires, this.lastWrite + heartbeat);
  }

  protected onBlocked(): void {
    if (this.#reason === undefined) this.hub.registry.setBehind(this, true);
    this.#stall = { taken: UNKNOWN, since: this.hub.now };
    this.hub.scheduleFlush(this);
    this.hub.wakeAt(this.hub.now + this.#sweepInterval);
  }

  protected onDrained(): void {
    this.hub.registry.setBehind(this, false);
  }

  protected onCaughtUp(): void {
    if (!this.closeNow()) this.#resolveDrained();
  }

  protected onReset(reason: ResetReason, lastEventId: string): void {
    this.hub.onReset(this, reason, lastEventId);
  }

  /** How often who is behind is looked at: a reader that took its last byte just after a look is cut a quarter late. */
  get #sweepInterval(): number {
    return Math.ceil(Math.min(this.hub.settings.slowTimeout, this.hub.settings.heartbeat) / 4);
  }

  /** Writes the head. @returns false when there was nothing to write it to, or it is over already */
  #start(): boolean {
    const { responseState: answered } = this.transport;
    if (answered) {
      if (answered === 'begun' && this.outbox) this.hub.report(headIsOut(), this);
      this.abandon('handler');
      return false;
    }
    const { retry } = this.hub.settings;
    // Firefox fires `open` only at the first byte of the body. No blank line: @microsoft/fetch-event-source would report one.
    this.transport.open(this.#padding + HEARTBEAT + (retry ? retryLine(randomDelay(retry)) : ''));
    this.lastWrite = this.hub.now;
    if (this.#reason === undefined) this.hub.onOpened(this);
    else this.hub.onOpenedAndClosed(this, this.#reason);
    this.start(this.lastEventId !== '' && this.hub.resumable && !this.usesAppIds ? this.lastEventId : undefined);
    this.transport.flush();
    this.socket = this.transport.socket;
    return (this.phase as DeliverySource) !== 'closed'; // its own snapshot may have ended it
  }

  /**
   * Ends the body. Who is behind lingers first, unless it is `late`: what was broadcast before an `end()` would else be lost to a
   * client that does not come back.
   */
  #completeClose(reason: CloseReason, late = reason === 'error'): void {
    this.#closing = false;
    try {
      this.writeDue();
      if (this.phase === 'ring' && !this.preamblePending) this.#closing = !late && this.cursor < this.limit;
      else this.#closing = !late && reason === 'end' && (this.preamblePending || this.isInLog);
      if (this.#closing) return;
      this.writeRest();
      if (this.#finalFrame !== '') this.write(this.#finalFrame);
      this.hub.replayer.remove(this);
      this.phase = 'closed';
      this.transport.end(reason === 'shutdown');
    } catch (error) {
      this.onTransportError(error); // nobody else's: it may be the hub's timer that ends it
    }
  }

  #markClosed(reason: CloseReason): void {
    if (!this.#closing) this.hub.replayer.remove(this);
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.hub.onClosed(this, reason);
    this.#abort?.abort(reason);
    this.#resolveDrained();
  }

  #resolveDrained(): void {
    if (this.#waiters === undefined || (this.#reason === undefined && this.isBehind)) return;
    const waiters = this.#waiters;
    this.#waiters = undefined;
    for (const resolve of waiters) resolve();
  }
}
