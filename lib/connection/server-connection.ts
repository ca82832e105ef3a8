/*
 * What the application holds of one open response: what it says and joins.
 * Knows its life, frames, channels and sources; its hub only as what it asks of it.
 * Invariant: what cannot be sent is an exception before anything of it is; what was said in a turn leaves in one write.
 */

import { inspect } from 'node:util';
import type { Request } from 'express';
import { View } from '../fanout/read-only-set.ts';
import { known } from '../validation/validate.ts';
import { checkChannels } from '../options/channel-names.ts';
import type { Connection } from '../api/connection.ts';
import { WRITE_BYTES } from './delivery.ts';
import { shown, SseTypeError } from '../errors.ts';
import { checkRetry, encode, encodeComment, encodeLines, goodbye, idLine, retryLine } from '../wire/event-stream.ts';
import type { Admission, Home } from './host.ts';
import { Life } from './life.ts';
import type { Outlet } from '../wire/transport.ts';
import { pour } from './push-source.ts';
import { isSource, isThenable } from '../api/source.ts';
import { Words } from './outbox.ts';

const NO_CHANNELS = new View<string>();

export class Stream extends Life implements Connection {
  readonly request: Request;
  #state: Record<string, unknown> | undefined;
  #turn = 0; // in which it last said something
  #said = 0; // how much in it

  constructor(hub: Home, outlet: Outlet, admission: Admission, number: number) {
    super(hub, outlet, admission, number);
    this.request = admission.request;
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

  get bufferedBytes(): number {
    return this.isOver ? 0 : this.outlet.waiting + (this.words?.size ?? 0);
  }

  push(...items: unknown[]): boolean {
    if (this.isOver) return false;
    if (items.length === 0) return !this.isBehind;
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
    return !this.isOver && this.#say(encodeComment(text));
  }

  join(...channels: string[]): void {
    checkChannels(channels);
    const added = [...new Set(channels)].filter((channel) => !this.channels.has(channel));
    if (added.length === 0 || this.isOver) return;
    if (this.phase !== 'connecting') {
      this.pump(); // what came before is for the channels of before
      this.changeLate(added);
      this.changed = this.position;
      if (this.lastEventId !== '' && !this.own && this.hub.resumable) this.hub.joinedLate(this);
    }
    this.hub.moved(this, [...this.channels, ...added]);
  }

  leave(...channels: string[]): void {
    checkChannels(channels);
    const before = [...this.channels];
    const kept = before.filter((channel) => !channels.includes(channel));
    if (kept.length === before.length || this.isOver) return;
    if (this.phase !== 'connecting') {
      this.pump();
      this.changeLate(before.filter((channel) => channels.includes(channel)));
      this.changed = this.position;
    }
    this.hub.moved(this, kept);
  }

  close(options: { retry?: number } = {}): void {
    known('option of close()', options, { retry: true });
    const retry = checkRetry(options.retry);
    this.finish('handler', retry === undefined ? '' : retryLine(retry));
  }

  end(): void {
    this.finish('end', goodbye());
  }

  protected get hasSnapshot(): boolean {
    return this.hub.settings.snapshot !== undefined;
  }

  protected snapshot(): string | Promise<string> {
    const state: unknown = this.hub.settings.snapshot!(this as Connection, this.request);
    return isThenable(state) ? state.then((settled) => this.#frames(settled)) : this.#frames(state);
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
    return !this.isBehind;
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
