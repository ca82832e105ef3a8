/*
 * One open response: its opening, its own words, its slowness and its end.
 * Knows its reader, frames, sources and errors; its hub only as what it asks of it.
 * Invariants: nothing is written before the end of the turn in which it opens; it is over once, for one reason, and then for good.
 */

import { randomInt } from 'node:crypto';
import { inspect } from 'node:util';
import type { Request } from 'express';
import { View } from './audience.ts';
import type { CloseReason, Connection } from './connection.ts';
import { shown, SseTypeError } from './errors.ts';
import {
  checkpoint,
  checkRetry,
  encode,
  encodeComment,
  encodeLines,
  goodbye,
  HEARTBEAT,
  idLine,
  retryLine,
} from './frame.ts';
import type { ResetReason } from './journal.ts';
import type { Settings, Span } from './options.ts';
import type { Outlet } from './outlet.ts';
import { Reader, WRITE_BYTES, type House } from './reader.ts';
import { isSource, pour } from './source.ts';
import { Words } from './words.ts';

/** What a connection asks of its hub, besides what its reader does. */
export interface Home extends House {
  readonly settings: Settings;
  /** Counts the hub's turns. */
  readonly turn: number;
  /** It has something to say: at the end of this turn. */
  soon(stream: Stream): void;
  opened(stream: Stream): void;
  /** Its end is on its way. */
  leaving(stream: Stream): void;
  over(stream: Stream, reason: CloseReason): void;
  /** Its response is done with. */
  finished(stream: Stream): void;
  moved(stream: Stream, channels: readonly string[]): void;
  behind(stream: Stream, is: boolean): void;
  wasReset(stream: Stream, reason: ResetReason, lastEventId: string): void;
  joinedLate(stream: Stream): void;
  name(number: number): string;
  report(error: unknown, stream: Stream): void;
}

/** What is known of a request when it is admitted. */
export interface Admission {
  readonly request: Request;
  readonly lastEventId: string;
  /** What a polyfill wants to see first. */
  readonly padding: string;
  /** Who it counts as. */
  readonly client: string;
}

/** A random value out of a span. */
export function within({ min, max }: Span): number {
  return randomInt(min, max + 1);
}

const NO_CHANNELS = new View<string>();

export class Stream extends Reader implements Connection {
  declare readonly hub: Home;
  readonly request: Request;
  readonly lastEventId: string;
  readonly client: string;
  readonly number: number;
  /** In the hub's list of who has something to say. */
  listed = false;
  #padding: string;
  #state: Record<string, unknown> | undefined;
  #abort: AbortController | undefined;
  #reason: CloseReason | undefined;
  #farewell = '';
  #expires: number; // 0: never
  #turn = 0; // in which it last said something
  #said = 0; // how much in it
  #waiters: (() => void)[] | undefined;
  #stall: { readonly taken: number; readonly since: number } | undefined;

  constructor(hub: Home, outlet: Outlet, admission: Admission, number: number) {
    super(hub, outlet);
    this.request = admission.request;
    this.lastEventId = admission.lastEventId;
    this.client = admission.client;
    this.number = number;
    this.#padding = admission.padding;
    // An id of another form is the application's, and so is resuming it.
    this.own = this.lastEventId !== '' && !hub.journal.isId(this.lastEventId);
    this.#expires = hub.settings.maxAge ? hub.now + within(hub.settings.maxAge) : 0;
  }

  get id(): string {
    return this.hub.name(this.number);
  }

  get channels(): ReadonlySet<string> {
    return this.audience?.channels ?? NO_CHANNELS;
  }

  get state(): Record<string, unknown> {
    return (this.#state ??= {});
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#reason !== undefined) this.#abort.abort(this.#reason);
    }
    return this.#abort.signal;
  }

  get bufferedBytes(): number {
    return this.#reason !== undefined ? 0 : this.outlet.waiting + (this.words?.size ?? 0);
  }

  get readyState(): 'connecting' | 'open' | 'closed' {
    if (this.#reason !== undefined) return 'closed';
    return this.phase === 'connecting' ? 'connecting' : 'open';
  }

  push(...items: unknown[]): boolean {
    if (this.#reason !== undefined) return false;
    if (items.length === 0) return !this.#isBehind;
    let text = '';
    let own = this.own;
    if (typeof items[0] === 'object' && items[0] !== null) {
      for (const message of items) {
        if (typeof message !== 'object') {
          throw new SseTypeError(
            'ERR_SSE_MESSAGE',
            `push() takes messages or lines, not both in one call, and after a message came ${shown(message)}: call it twice.`,
          );
        }
        const { id, body } = encode(message, this.hub.settings.serialize);
        if (id !== undefined) own = true;
        text += id === undefined ? body : idLine(id) + body;
      }
    } else text = encodeLines(items as (string | number)[]);
    this.own = own;
    return this.#say(text);
  }

  pushAll(source: unknown): Promise<void> {
    return pour(this as Connection, source);
  }

  comment(text?: string): boolean {
    return this.#reason === undefined && this.#say(encodeComment(text));
  }

  drained(): Promise<void> {
    if (this.#reason !== undefined || !this.#isBehind) return Promise.resolve();
    return new Promise((resolve) => (this.#waiters ??= []).push(resolve));
  }

  join(...channels: string[]): void {
    checkChannels(channels);
    const added = [...new Set(channels)].filter((channel) => !this.channels.has(channel));
    if (added.length === 0 || this.#reason !== undefined) return;
    if (this.phase !== 'connecting') {
      this.pump(); // what came before is for the channels of before
      this.joinLate(added);
      if (this.lastEventId !== '' && !this.own && this.hub.resumable) this.hub.joinedLate(this);
    }
    this.hub.moved(this, [...this.channels, ...added]);
  }

  leave(...channels: string[]): void {
    checkChannels(channels);
    const left = [...this.channels].filter((channel) => !channels.includes(channel));
    if (left.length === this.channels.size || this.#reason !== undefined) return;
    if (this.phase !== 'connecting') this.pump();
    this.hub.moved(this, left);
  }

  open(): void {
    if (this.#reason === undefined && this.phase === 'connecting') this.hub.soon(this);
  }

  close(options: { retry?: number } = {}): void {
    const retry = checkRetry(options.retry);
    this.finish('handler', retry === undefined ? '' : retryLine(retry));
  }

  end(): void {
    this.finish('end', goodbye());
  }

  /** Over, in order: what was said leaves first, then `farewell`, then the end of the body. */
  finish(reason: CloseReason, farewell = ''): void {
    if (this.#reason !== undefined) return;
    this.hub.leaving(this);
    if (this.phase === 'connecting') {
      this.#farewell = farewell;
      this.hub.soon(this); // an exception in this turn may still turn it into an error's answer
    } else this.#depart(farewell, reason);
    this.#over(reason);
  }

  /** Over, now: nothing more leaves. */
  cut(reason: CloseReason): void {
    if (this.#reason !== undefined) return;
    this.phase = 'closed';
    this.outlet.destroy();
    this.#over(reason);
  }

  /** The answer is somebody else's: the handler's own, or the error handler's. */
  waive(reason: CloseReason): void {
    this.phase = 'closed';
    this.words = undefined;
    this.#over(reason);
    this.hub.finished(this);
  }

  /** The response is done with, or its client has gone. */
  gone(): void {
    if (this.phase === 'connecting' && this.outlet.answered) this.waive('handler');
    this.phase = 'closed';
    this.words = undefined;
    this.#over('client');
    this.hub.finished(this);
  }

  fail(error: unknown): void {
    this.hub.report(error, this);
    this.finish('error');
  }

  /** The end of a turn in which it had something to say. */
  flush(): void {
    if (this.phase === 'closed') return;
    if (this.phase === 'connecting') {
      if (!this.#start()) return;
    } else {
      this.pump();
      this.words?.shelve();
    }
    if (this.#reason === undefined) this.#settle();
    else this.#depart(this.#farewell, this.#reason);
  }

  /** Looks whether something is due. @returns when it is to be looked at again */
  tick(now: number): number {
    const { heartbeat, slowTimeout } = this.hub.settings;
    if (this.phase === 'connecting') {
      if (now - this.lastWrite >= heartbeat) this.open();
      return this.lastWrite + heartbeat;
    }
    if (this.#expires !== 0 && now >= this.#expires) {
      this.finish('expired');
      return Infinity;
    }
    const expires = this.#expires === 0 ? Infinity : this.#expires;
    if (this.outlet.waiting > 0) {
      const { taken } = this.outlet;
      if (this.#stall?.taken !== taken) this.#stall = { taken, since: now };
      else if (now - this.#stall.since >= slowTimeout) this.cut('slow');
      return Math.min(expires, this.#stall.since + slowTimeout, now + heartbeat);
    }
    this.#stall = undefined;
    if (now - this.lastWrite >= heartbeat) this.#beat();
    return Math.min(expires, this.lastWrite + heartbeat);
  }

  protected get hasSnapshot(): boolean {
    return this.hub.settings.snapshot !== undefined;
  }

  protected snapshot(): string | Promise<string> {
    const state: unknown = this.hub.settings.snapshot!(this as Connection, this.request);
    return state instanceof Promise ? state.then((settled: unknown) => this.#frames(settled)) : this.#frames(state);
  }

  protected fellOff(): void {
    this.cut('slow');
  }

  protected onBlocked(): void {
    this.hub.behind(this, true);
    this.hub.due(this.hub.now + this.hub.settings.slowTimeout);
  }

  protected onDrained(): void {
    this.hub.behind(this, false);
  }

  protected onLive(): void {
    this.#settle();
  }

  protected onReset(reason: ResetReason, lastEventId: string): void {
    this.hub.wasReset(this, reason, lastEventId);
  }

  get #isBehind(): boolean {
    return this.blocked || (this.words !== undefined && this.words.size >= WRITE_BYTES);
  }

  #say(text: string): boolean {
    const { hub } = this;
    if (this.#turn !== hub.turn) {
      this.#turn = hub.turn;
      this.#said = 0;
    }
    if (this.phase !== 'live' && this.phase !== 'connecting') {
      // What was said in this turn does not count: a healthy reader survives any burst, and any single event.
      const held = (this.words?.size ?? 0) + Math.min(this.outlet.waiting, this.written) - this.#said;
      if (held > hub.settings.maxBuffered) {
        this.cut('slow');
        return false;
      }
    }
    this.#said += text.length;
    (this.words ??= new Words()).say(text, hub.ring.head);
    if (this.words.size >= WRITE_BYTES && this.phase === 'live') this.pump();
    hub.soon(this);
    return !this.#isBehind;
  }

  /** Writes the head. @returns false when there is nothing to write it to */
  #start(): boolean {
    if (this.outlet.answered) {
      this.waive('handler');
      return false;
    }
    const { retry } = this.hub.settings;
    // Firefox fires `open` only at the first byte of the body. No blank line: @microsoft/fetch-event-source would report one.
    this.outlet.open(this.#padding + HEARTBEAT + (retry ? retryLine(within(retry)) : ''));
    this.#padding = '';
    this.lastWrite = this.hub.now;
    if (this.#reason === undefined) this.hub.opened(this);
    this.begin(this.lastEventId !== '' && this.hub.resumable && !this.own ? this.lastEventId : undefined);
    return true;
  }

  #depart(farewell: string, reason: CloseReason): void {
    this.pump();
    this.sayTheRest();
    if (farewell !== '') this.write(farewell);
    this.phase = 'closed';
    this.outlet.end(reason === 'shutdown');
  }

  #over(reason: CloseReason): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.hub.catchUp.drop(this);
    this.hub.over(this, reason);
    this.#abort?.abort(reason);
    this.#settle();
  }

  #settle(): void {
    if (this.#waiters === undefined || (this.#reason === undefined && this.#isBehind)) return;
    const waiters = this.#waiters;
    this.#waiters = undefined;
    for (const resolve of waiters) resolve();
  }

  #beat(): void {
    this.pump();
    const { ring, resumable } = this.hub;
    if (this.phase !== 'live' || !resumable || this.own || this.told >= ring.head) this.write(HEARTBEAT);
    else {
      this.told = ring.head;
      this.write(checkpoint(ring.headId)); // its channels were quiet: without this its id would grow too old to resume
    }
  }

  #frames(state: unknown): string {
    if (state === undefined || state === null) return '';
    if (typeof state === 'string' || !isSource(state)) return this.#frame(state);
    let text = '';
    for (const message of state as Iterable<unknown>) text += this.#frame(message);
    return text;
  }

  #frame(message: unknown): string {
    const { id, body } = encode(message, this.hub.settings.serialize);
    if (id === undefined) return body;
    this.own = true;
    return idLine(id) + body;
  }

  /** Says nothing of the request, whose headers are secrets. */
  [inspect.custom](): string {
    return `Connection { id: '${this.id}', readyState: '${this.readyState}', channels: ${this.channels.size}, bufferedBytes: ${this.bufferedBytes} }`;
  }
}

/** @throws {SseTypeError} `ERR_SSE_CHANNEL` */
export function checkChannels(channels: readonly unknown[]): asserts channels is readonly string[] {
  for (const channel of channels) {
    if (typeof channel === 'string' && channel !== '') continue;
    throw new SseTypeError(
      'ERR_SSE_CHANNEL',
      `A channel's name is a string that is not empty, and this is ${shown(channel)}.`,
    );
  }
}
