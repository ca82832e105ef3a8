/*
 * What the application holds of one open response: what it says and joins.
 * Knows its life, frames, channels and sources; its hub only as what it asks of it.
 * Invariant: what cannot be sent is an exception before anything of it is; what was said in a turn leaves in one write.
 */

import { inspect } from 'node:util';
import type { Request } from 'express';
import { ReadOnlySet } from '../fanout/read-only-set.ts';
import { rejectUnknownKeys } from '../validation/validate.ts';
import { checkChannels } from '../options/channel-names.ts';
import type { Connection } from '../api/connection.ts';
import { MAX_WRITE_BYTES } from './delivery.ts';
import { describe, SseTypeError } from '../errors.ts';
import {
  checkRetry,
  encodeMessage,
  encodeComment,
  encodeLines,
  endEvent,
  idLine,
  retryLine,
} from '../wire/event-stream.ts';
import type { ConnectionRequest, ConnectionHost } from './host.ts';
import { Life } from './life.ts';
import type { Transport } from '../wire/transport.ts';
import { pipeSource } from './push-source.ts';
import { isSource, isPromiseLike } from '../api/source.ts';
import { Outbox } from './outbox.ts';

const NO_CHANNELS = new ReadOnlySet<string>();

export class ServerConnection extends Life implements Connection {
  readonly request: Request;
  #state: Record<string, unknown> | undefined;
  #tick = 0; // in which it last said something
  #sentInTick = 0; // how much in it

  constructor(hub: ConnectionHost, outlet: Transport, admission: ConnectionRequest, number: number) {
    super(hub, outlet, admission, number);
    this.request = admission.request;
  }

  get id(): string {
    return this.hub.nameOf(this.serial);
  }

  get channels(): ReadonlySet<string> {
    return this.group?.channels ?? NO_CHANNELS;
  }

  get state(): Record<string, unknown> {
    return (this.#state ??= {});
  }

  get bufferedBytes(): number {
    return this.isClosed ? 0 : this.transport.bufferedBytes + (this.outbox?.size ?? 0);
  }

  push(...items: unknown[]): boolean {
    if (this.isClosed) return false;
    if (items.length === 0) return !this.isBehind;
    let text = '';
    let own = this.usesAppIds;
    if (typeof items[0] === 'object' && items[0] !== null) {
      for (const message of items) {
        if (typeof message !== 'object') {
          throw new SseTypeError(
            'ERR_SSE_MESSAGE',
            `push() takes messages or lines, not both in one call, and after a message came ${describe(message)}: call it twice.`,
          );
        }
        const { id, body } = encodeMessage(message, this.hub.settings.serialize);
        if (id !== undefined) own = true;
        text += id === undefined ? body : idLine(id) + body;
      }
    } else text = encodeLines(items as (string | number)[]);
    this.usesAppIds = own;
    return this.#send(text);
  }

  pushAll(source: unknown): Promise<void> {
    return pipeSource(this as Connection, source);
  }

  comment(text?: string): boolean {
    return !this.isClosed && this.#send(encodeComment(text));
  }

  join(...channels: string[]): void {
    checkChannels(channels);
    const added = [...new Set(channels)].filter((channel) => !this.channels.has(channel));
    if (added.length === 0 || this.isClosed) return;
    if (this.phase !== 'connecting') {
      this.writeDue(); // what came before is for the channels of before
      this.recordChange(added);
      this.channelsChangedAt = this.position;
      if (this.lastEventId !== '' && !this.usesAppIds && this.hub.resumable) this.hub.onLateJoin(this);
    }
    this.hub.onChannelsChanged(this, [...this.channels, ...added]);
  }

  leave(...channels: string[]): void {
    checkChannels(channels);
    const before = [...this.channels];
    const kept = before.filter((channel) => !channels.includes(channel));
    if (kept.length === before.length || this.isClosed) return;
    if (this.phase !== 'connecting') {
      this.writeDue();
      this.recordChange(before.filter((channel) => channels.includes(channel)));
      this.channelsChangedAt = this.position;
    }
    this.hub.onChannelsChanged(this, kept);
  }

  close(options: { retry?: number } = {}): void {
    rejectUnknownKeys('option of close()', options, { retry: true });
    const retry = checkRetry(options.retry);
    this.beginClose('handler', retry === undefined ? '' : retryLine(retry));
  }

  end(): void {
    this.beginClose('end', endEvent());
  }

  protected get hasSnapshot(): boolean {
    return this.hub.settings.snapshot !== undefined;
  }

  protected snapshot(): string | Promise<string> {
    const state: unknown = this.hub.settings.snapshot!(this as Connection, this.request);
    return isPromiseLike(state) ? state.then((settled) => this.#frames(settled)) : this.#frames(state);
  }

  #send(text: string): boolean {
    const { hub } = this;
    if (this.#tick !== hub.tick) {
      this.#tick = hub.tick;
      this.#sentInTick = 0;
    }
    if (this.phase !== 'live' && this.phase !== 'connecting') {
      // What was said in this turn does not count: a healthy reader survives any burst, and any single event.
      const held = (this.outbox?.size ?? 0) + Math.min(this.transport.bufferedBytes, this.ownBytes) - this.#sentInTick;
      if (held > hub.settings.maxBuffered) {
        this.abort('slow');
        return false;
      }
    }
    this.#sentInTick += text.length;
    (this.outbox ??= new Outbox()).add(text, hub.ring.head);
    if (this.outbox.size >= MAX_WRITE_BYTES && this.phase === 'live') this.writeDue();
    hub.scheduleFlush(this);
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
    const { id, body } = encodeMessage(message, this.hub.settings.serialize);
    if (id === undefined) return body;
    this.usesAppIds = true;
    return idLine(id) + body;
  }

  /** Says nothing of the request, whose headers are secrets. */
  [inspect.custom](): string {
    return `Connection { id: '${this.id}', readyState: '${this.readyState}', channels: ${this.channels.size}, bufferedBytes: ${this.bufferedBytes} }`;
  }
}
