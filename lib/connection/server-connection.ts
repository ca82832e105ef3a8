/*
 * One open response: the object that the application receives, and the state machine of its life.
 * Invariants: only this class writes `lifecycle` and `source`. Nothing is written before the end of the tick in which the stream
 * opens. A connection ends once, for one reason. An invalid message throws before any part of it is sent.
 * docs/architecture.md has the table of all transitions.
 */

import { AsyncResource } from 'node:async_hooks';
import { setMaxListeners } from 'node:events';
import { inspect } from 'node:util';
import type { Connection, CloseReason } from '../api/connection.ts';
import { isPromiseLike, isSource } from '../api/source.ts';
import { headersAlreadySent } from '../diagnostics/error-reporter.ts';
import { describe, SseTypeError } from '../errors.ts';
import { ReadOnlySet } from '../fanout/read-only-set.ts';
import type { Entry, ResetReason } from '../journal/journal.ts';
import { checkChannels } from '../options/channel-names.ts';
import { invalidSnapshot } from '../options/snapshot.ts';
import { DEFAULT_RETRY, randomDelay } from '../options/delay-range.ts';
import { rejectUnknownKeys } from '../validation/validate.ts';
import {
  checkpointEvent,
  checkRetry,
  encodeComment,
  encodeLines,
  encodeMessage,
  endEvent,
  HEARTBEAT,
  idLine,
  insertId,
  MAX_ID_LENGTH,
  retryLine,
  serializeDefault,
  type EncodedMessage,
} from '../wire/event-stream.ts';
import { MAX_WRITE_BYTES, type Packet } from '../wire/packet.ts';
import type { Transport } from '../wire/transport.ts';
import {
  BLOCKED,
  CAUGHT_UP,
  NOTHING,
  OVERRUN,
  type Progress,
  positionOf,
  recordChannelChange,
  refused,
  takeOwn,
  writeDispatched,
  writeDue,
  writeFirst,
  writeOwn,
  writeReplayed,
  writeRest,
} from './delivery.ts';
import type { ConnectionHost } from './host.ts';
import { Outbox } from './outbox.ts';
import { pipeSource, type SourceTexts } from './push-source.ts';
import { hasIdOfThisLog, foreignId, getsPositions, readsFromLog, locate, preamble, rewind } from './resume.ts';
import { type Closing, type ConnectionRequest, ConnectionState } from './state.ts';

const NO_CHANNELS: ReadonlySet<string> = new ReadOnlySet<string>();
/** node:http hands what it was given to the socket only at the end of the tick, so its count is read then. */
const NOT_READ = -1;
/** How often a connection that has written a complete log is checked for bytes that the kernel has not accepted yet. */
const END_CHECK_INTERVAL_MS = 20;

/** An entry of the log that ends connections: its number in the ring, its id, and whether the clients must not reconnect. */
export interface Disconnect {
  readonly n: number;
  readonly id: string;
  readonly isFinal: boolean;
}

export class ServerConnection extends ConnectionState implements Connection {
  constructor(host: ConnectionHost, transport: Transport, request: ConnectionRequest, serial: number) {
    const { now } = host.timer;
    // 0 means never, so a connection that has expired already expires at 1.
    super(host, transport, request, serial, request.maxAge === undefined ? 0 : Math.max(1, now + request.maxAge));
    if (host.settings.keepsContext) this.#keepContext();
  }

  // ---- What the application calls

  get id(): string {
    return this.host.idOf(this.serial);
  }

  get lastEventId(): string {
    return this.clientId.length > MAX_ID_LENGTH ? '' : this.clientId; // no event has a longer id
  }

  get channels(): ReadonlySet<string> {
    return this.group?.channels ?? NO_CHANNELS;
  }

  get state(): Record<string, unknown> {
    return (this.userState ??= {});
  }

  get bufferedBytes(): number {
    return this.isClosed ? 0 : this.transport.bufferedBytes + (this.outbox?.size ?? 0);
  }

  get readyState(): 'connecting' | 'open' | 'closed' {
    return this.lifecycle === 'closing' ? 'closed' : this.lifecycle;
  }

  get signal(): AbortSignal {
    this.#keepContext(); // for its listeners
    return this.#closeSignal;
  }

  push(...items: unknown[]): boolean {
    if (this.isClosed) return false;
    if (items.length === 0) return !this.isBehind;
    let text = '';
    let { usesAppIds } = this;
    if (typeof items[0] === 'object' && items[0] !== null) {
      for (const message of items) {
        if (typeof message !== 'object') {
          throw new SseTypeError(
            'ERR_SSE_MESSAGE',
            `Every argument of push() after a message must be a message; received ${describe(message)}. The name of an event is a field of its message: { event, data }. Push lines in a call of their own.`,
          );
        }
        const { id, body } = this.#encodeMessage(message);
        if (id !== undefined) usesAppIds = true;
        text += id === undefined ? body : idLine(id) + body;
      }
    } else text = encodeLines(items as (string | number)[]);
    this.usesAppIds = usesAppIds;
    return this.#enqueue(text);
  }

  pushAll(source: unknown): Promise<void> {
    return this.#pipe(source, { name: 'The source of pushAll()', cure: 'Use push() for one message.' });
  }

  /** Pushes everything that the handler has returned, as {@link pushAll} does. */
  pushResult(source: unknown): Promise<void> {
    return this.#pipe(source, { name: 'The result of the handler', cure: 'Use conn.push() for one message.' });
  }

  async #pipe(source: unknown, texts: SourceTexts): Promise<void> {
    const { producers } = this.host;
    producers.add(this);
    try {
      await pipeSource(this as Connection, source, this.#closeSignal, texts);
    } finally {
      producers.remove(this);
    }
  }

  comment(text?: string): boolean {
    return !this.isClosed && this.#enqueue(encodeComment(text));
  }

  drained(): Promise<void> {
    if (this.isClosed || !this.isBehind) return Promise.resolve();
    return new Promise((resolve) => (this.drainWaiters ??= []).push(resolve));
  }

  join(...channels: string[]): void {
    checkChannels(channels);
    const added = [...new Set(channels)].filter((channel) => !this.channels.has(channel));
    if (added.length === 0 || this.isClosed) return;
    if (this.lifecycle === 'open') {
      if (!this.#changeChannels(added)) return;
      if (this.clientId !== '' && getsPositions(this)) this.host.onLateJoin();
    }
    this.host.onChannelsChanged(this, [...this.channels, ...added]);
  }

  leave(...channels: string[]): void {
    checkChannels(channels);
    const before = [...this.channels];
    const kept = before.filter((channel) => !channels.includes(channel));
    if (kept.length === before.length || this.isClosed) return;
    const left = before.filter((channel) => channels.includes(channel));
    if (this.lifecycle !== 'open' || this.#changeChannels(left)) this.host.onChannelsChanged(this, kept);
  }

  open(): void {
    if (this.lifecycle === 'connecting') this.host.dispatcher.scheduleFlush(this);
  }

  close(options: { retry?: number } = {}): void {
    rejectUnknownKeys('option of close()', options, { retry: true });
    const retry = checkRetry(options.retry);
    this.beginClose('handler', retry === undefined ? '' : retryLine(retry));
  }

  end(): void {
    this.beginClose('end', this.host.settings.controlEvents ? endEvent() : '');
  }

  /** Shows nothing of the request, whose headers contain secrets. */
  [inspect.custom](): string {
    return `Connection { id: '${this.id}', readyState: '${this.readyState}', channels: ${this.channels.size}, bufferedBytes: ${this.bufferedBytes} }`;
  }

  // ---- Context

  /** Calls a function of the application in the async context of the request, whichever tick or timer the caller runs in. */
  inContext<T>(call: () => T): T {
    return this.context === undefined ? call() : this.context.runInAsyncScope(call);
  }

  /**
   * Keeps the async context that the caller runs in, unless one is kept already. An AsyncResource takes 80 bytes; the function that
   * `AsyncLocalStorage.snapshot()` returns takes 2.7 KB on Node 20 and 1.4 KB on Node 24.
   */
  #keepContext(): void {
    this.context ??= new AsyncResource('SseConnection');
  }

  /** The signal of {@link signal}. It keeps no context: another request may have called `pushAll()`. */
  get #closeSignal(): AbortSignal {
    if (this.abortController === undefined) {
      this.abortController = new AbortController();
      // Each database query and each pushAll() of a long stream may add a listener. Node 20 warns from the eleventh on.
      setMaxListeners(Infinity, this.abortController.signal);
      if (this.isClosed) this.abortController.abort(this.closing!.reason);
    }
    return this.abortController.signal;
  }

  // ---- Opening

  /** Whether the application can no longer use the connection. Its last bytes may still be on their way. */
  get isClosed(): boolean {
    return this.lifecycle === 'closing' || this.lifecycle === 'closed';
  }

  /** Whether nothing has been written yet, and something may be. */
  get isUnopened(): boolean {
    return this.source === 'none' && (this.lifecycle === 'connecting' || this.lifecycle === 'closing');
  }

  /** Runs at the end of a tick in which the connection had something to write. */
  flush(): void {
    if (this.lifecycle === 'closed') return;
    if (this.isUnopened) {
      if (!this.#writeHead()) return;
    } else {
      this.#advance(writeDue(this));
      this.outbox?.seal();
      if (this.stall?.acceptedBytes === NOT_READ) this.stall.acceptedBytes = this.transport.acceptedBytes;
    }
    const { closing } = this;
    if (closing === undefined) this.#resolveDrained();
    else if (this.preamblePending) closing.isWaiting = true;
    else this.#completeClose(closing.reason === 'error');
  }

  /** Writes the response head and the first bytes. @returns false if there was no response to write to, or if it has ended since */
  #writeHead(): boolean {
    const { transport, host } = this;
    const { responseState } = transport;
    if (responseState) {
      if (responseState === 'begun' && (this.outbox || transport.hasStreamHead)) {
        host.report(headersAlreadySent(), this);
      }
      this.abandon('handler');
      return false;
    }
    const { retry } = host.settings;
    const { closing } = this;
    if (closing?.isUnfinished && closing.reason === 'shutdown' && this.request.method === 'POST') {
      // Its client takes an empty stream for an empty answer. Nothing has been sent, so a status can say that it must try again.
      host.counters.refused.shutdown++;
      transport.refuse(randomDelay(retry ?? DEFAULT_RETRY));
      this.lifecycle = 'closed'; // it leaves the registry when the response has closed
      return false;
    }
    // Firefox fires `open` only at the first byte of the body. No blank line: @microsoft/fetch-event-source would report a message.
    transport.open(this.padding + HEARTBEAT + (retry ? retryLine(randomDelay(retry)) : ''));
    this.lastWrite = host.timer.now;
    if (this.closing === undefined) host.onOpened(this);
    else host.onOpenedAndClosed(this, this.closing.reason);
    if (this.#hasEnded) return false; // a subscriber of the diagnostics channel has ended it
    if (this.lifecycle === 'connecting') this.lifecycle = 'open';
    this.source = 'ring';
    this.#start();
    transport.flush();
    this.socket = transport.socket;
    return !this.#hasEnded;
  }

  /** Composes the first bytes: those of a returning client, of a fresh one with a snapshot, or of a fresh one. */
  #start(): void {
    this.outbox?.moveToFront(); // what was pushed before the opening precedes everything else
    const { ring, settings } = this.host;
    // Without a history nothing can be missed: the connection begins with the oldest entry that is kept.
    if (!settings.resumable) this.cursor = Math.max(this.cursor, ring.firstInLog - 1);
    if (this.clientId !== '' && getsPositions(this)) {
      this.preamblePending = true;
      if (hasIdOfThisLog(this)) this.resumeAfter(this.clientId);
      else this.reset('unknown', foreignId(this)); // a foreign id: of another library, another journal, or mangled
    } else if (settings.snapshot !== undefined) this.#startAtHead(undefined, '');
    else if (getsPositions(this)) this.#writePreamble((pushed) => insertId(pushed, this.cursorId));
    else this.#advance(writeDue(this));
  }

  // ---- Resume

  /** Continues after the entry with this id, wherever it is. */
  resumeAfter(id: string): void {
    this.cursorId = id;
    this.startEpoch++;
    const place = locate(this, id);
    if (typeof place === 'number') this.continueInRing(place);
    else if (place === 'older') this.#enqueueReplay();
    else {
      this.source = 'ahead';
      this.host.replayer.awaitAhead(this);
    }
  }

  /** Continues in the ring after n. `lastSent`: the n of the last id that the client has; 0 if the ring does not have it. */
  continueInRing(n: number, lastSent: number = n): void {
    this.cursor = n;
    this.lastSent = lastSent;
    this.source = 'ring';
    if (this.preamblePending) this.confirmPosition();
    else this.#advance(writeDue(this));
  }

  /** The log has the client's id: the first bytes may leave, and the missed entries follow. */
  confirmPosition(): void {
    if (!this.preamblePending) return;
    this.host.counters.resumes.resumed++;
    this.#writePreamble((pushed) => pushed);
  }

  /** The scan of the log has reached the connection's id. */
  onReplayStarted(): void {
    this.source = 'replaying';
    this.confirmPosition();
  }

  /** The scan has read up to the entry `id`; the packet has what of it is for this connection. */
  onReplayPage(packet: Packet | undefined, id: string): void {
    this.#advance(writeReplayed(this, packet, id));
    if (this.closing !== undefined && this.host.journal.compare(id, this.closing.limitId) >= 0) this.closeNow(false);
  }

  /** The log no longer has what the client missed: sends a `reset` and starts at the head. */
  reset(reason: ResetReason, lastEventId: string = this.cursorId): void {
    if (this.source === 'none') return; // a connection that has not started looks its id up when it does
    if (!this.host.settings.controlEvents) {
      this.transport.destroy(); // nothing but a broken connection can report the loss
      return this.abandon(reason === 'lost' ? 'slow' : 'error');
    }
    this.host.counters.resumes[reason]++;
    this.#startAtHead(reason, lastEventId);
    this.host.onReset(this, reason, lastEventId);
  }

  /** Saves the position before the ring rewinds: live connections share the dispatcher's. */
  saveCursor(): void {
    this.cursor = positionOf(this);
  }

  /** Saves the id of the position before the ring that contains it is replaced. */
  saveCursorId(): void {
    if (this.source === 'live') this.cursorId = this.host.ring.idAt(positionOf(this)) as string;
  }

  /** The journal has restarted: the ring is new, and no entry of the previous ring is known to be in the log. */
  onJournalRestart(reason: ResetReason): void {
    if (!readsFromLog(this) || (reason !== 'lost' && this.membership !== undefined)) return this.reset(reason);
    if (this.source === 'paused') return; // it looks its id up when it has drained
    this.host.replayer.remove(this);
    this.resumeAfter(this.cursorId); // the connection was not in the ring: its id may be in the log as it is now
  }

  /** The ring has been rewound to n: the log lost the entries in `removed`. */
  onJournalRewind(n: number, removed: readonly Entry[]): void {
    const common = this.host.ring.idAt(n) as string;
    this.outbox?.truncate(n);
    if (this.closing !== undefined && this.closing.limit > n)
      Object.assign(this.closing, { limit: n, limitId: common });
    this.membership?.truncate(common);
    if (this.lifecycle === 'closed') return;
    const effect = rewind(this, n, removed);
    if (effect === 'unaffected') return;
    if (readsFromLog(this)) {
      if (effect === 'reset') return this.reset('diverged');
      if (this.source === 'paused') return; // it looks its id up when it has drained
      this.host.replayer.remove(this);
      return this.resumeAfter(this.cursorId);
    }
    const lastEventId = removed[this.cursor - n - 1]!.id;
    this.cursor = n;
    this.cursorId = common;
    this.lastSent = n;
    if (this.source === 'none') return;
    if (effect === 'reset') return this.reset('diverged', lastEventId);
    if (getsPositions(this)) (this.outbox ??= new Outbox()).addFirst(checkpointEvent(common)); // the client's id may be lost
    this.#advance(writeDue(this));
  }

  /** Queues the connection for the scan. What precedes every entry is written first; otherwise entries of the scan would precede it. */
  #enqueueReplay(): void {
    this.source = 'queued';
    if (!this.preamblePending) this.#advance(writeFirst(this));
    if (this.source !== 'queued') return; // it blocked, or its transport ended it
    if (this.blocked) this.source = 'paused';
    else this.host.replayer.enqueue(this);
  }

  /** Starts at the head, with the application's snapshot if there is one. */
  #startAtHead(reason: ResetReason | undefined, lastEventId: string): void {
    const { ring, replayer, settings, pendingSnapshots } = this.host;
    replayer.remove(this);
    pendingSnapshots?.remove(this);
    this.membership = undefined;
    this.source = 'ring';
    this.cursor = ring.head;
    this.cursorId = ring.headId;
    this.lastSent = this.cursor;
    this.preamblePending = true;
    const epoch = ++this.startEpoch;
    const { cursorId } = this;
    const write = (snapshot: string): void =>
      this.#writePreamble((pushed) => {
        const position = getsPositions(this) ? cursorId : undefined; // the snapshot may have brought an id of its own
        return preamble(reason, lastEventId, position, snapshot, pushed);
      });
    if (settings.snapshot === undefined) return write('');
    const isCurrent = (): boolean => epoch === this.startEpoch && !this.#hasEnded;
    try {
      const snapshot = this.#snapshot();
      if (typeof snapshot !== 'string') {
        if (isCurrent() && !this.isClosed) pendingSnapshots?.add(this); // a close has a deadline of its own
        snapshot
          .then((text) => {
            if (!isCurrent()) return;
            pendingSnapshots?.remove(this);
            write(text);
          })
          .then(undefined, (error: unknown) => isCurrent() && this.closeWithError(error));
      } else if (isCurrent()) write(snapshot); // the function may have ended the connection
    } catch (error) {
      this.closeWithError(error);
    }
  }

  /** Writes the first bytes; `compose` makes them out of what was pushed before the opening. */
  #writePreamble(compose: (pushed: string) => string): void {
    this.preamblePending = false;
    const pushed = !this.started && this.outbox?.nextPosition === 0 ? String(takeOwn(this)) : '';
    this.started = true;
    const text = compose(pushed);
    if (text !== '') (this.outbox ??= new Outbox()).addFirst(text);
    this.#advance(this.source === 'ring' ? writeDue(this) : writeFirst(this));
  }

  #snapshot(): string | Promise<string> {
    const { settings } = this.host;
    return this.inContext(() => {
      const snapshot: unknown = settings.snapshot!(this as Connection, this.request);
      if (!isPromiseLike(snapshot)) return this.#encodeAll(snapshot);
      // A `then` that is not a promise's own may call back in any context.
      return Promise.resolve(snapshot).then((settled) => this.#encodeAll(settled));
    });
  }

  #encodeAll(snapshot: unknown): string {
    if (snapshot === undefined || snapshot === null) return '';
    if (typeof snapshot === 'string' || !isSource(snapshot)) return this.#encode(snapshot);
    if (ArrayBuffer.isView(snapshot) || !(Symbol.iterator in snapshot))
      throw invalidSnapshot('The result of snapshot()', snapshot);
    let text = '';
    for (const message of snapshot) text += this.#encode(message);
    return text;
  }

  #encode(message: unknown): string {
    const { id, body } = this.#encodeMessage(message);
    if (id === undefined) return body;
    this.usesAppIds = true;
    return idLine(id) + body;
  }

  #encodeMessage(message: unknown): EncodedMessage {
    const { serialize, controlEvents } = this.host.settings;
    if (serialize === serializeDefault) return encodeMessage(message, serialize, controlEvents);
    return this.inContext(() => encodeMessage(message, serialize, controlEvents));
  }

  // ---- Delivery

  /** The write that `takeForBatch()` prepared was refused. */
  onWriteRefused(): void {
    this.#advance(refused(this));
  }

  /**
   * Writes a dispatched packet with the entries (from, to], or whatever has to precede them. Without a packet, the entries need several
   * writes.
   * @returns whether this packet was written; other writes count themselves
   */
  writeDispatched(packet: Packet | undefined, from: number, to: number, now: number): boolean {
    if (this.source !== 'live' || this.cursor >= to) return false;
    const isInStep = packet !== undefined && this.outbox === undefined && this.cursor <= from;
    this.#advance(isInStep ? writeDispatched(this, packet, to, now) : writeDue(this));
    return isInStep;
  }

  /** Reacts to the outcome of a write. */
  #advance(progress: Progress): void {
    if (progress === NOTHING || this.#hasEnded) return;
    switch (progress) {
      case CAUGHT_UP:
        this.source = 'live';
        if (this.closeNow(false)) return;
        if (this.host.completion !== undefined) this.onLogComplete();
        this.#resolveDrained();
        return;
      case BLOCKED:
        if (this.source === 'live' || this.source === 'ring') {
          this.source = 'ring';
          this.cursorId = this.host.ring.idAt(this.cursor) as string;
        } else if (this.source !== 'ahead') {
          this.source = 'paused';
          this.host.replayer.remove(this);
        }
        this.#onBlocked();
        return;
      case OVERRUN:
        if (this.host.settings.resumable) this.#enqueueReplay();
        else this.abort('slow'); // there is no log to continue from
    }
  }

  #onBlocked(): void {
    const { dispatcher, registry, timer } = this.host;
    this.blocked = true;
    if (!this.isClosed) registry.setBehind(this, true);
    this.stall = { acceptedBytes: NOT_READ, since: timer.now };
    dispatcher.scheduleFlush(this);
    timer.wakeAt(timer.now + this.#sweepInterval);
    this.transport.onceDrained(() => this.#onDrained());
  }

  #onDrained(): void {
    // The application itself may have ended the response.
    if (!this.blocked || this.#hasEnded || this.transport.responseState === 'ended') return;
    this.blocked = false;
    try {
      if (this.source === 'paused') this.resumeAfter(this.cursorId);
      else this.#advance(writeDue(this));
      if (!this.blocked) this.host.registry.setBehind(this, false);
    } catch (error) {
      this.onTransportError(error);
    }
  }

  /** Whether `push()` advises the application to wait. */
  get isBehind(): boolean {
    return this.blocked || (this.outbox !== undefined && this.outbox.size >= MAX_WRITE_BYTES);
  }

  #resolveDrained(): void {
    if (this.drainWaiters === undefined || (!this.isClosed && this.isBehind)) return;
    const waiters = this.drainWaiters;
    this.drainWaiters = undefined;
    for (const resolve of waiters) resolve();
  }

  #enqueue(text: string): boolean {
    const { dispatcher, ring, settings } = this.host;
    if (this.pushTick !== dispatcher.tick) {
      this.pushTick = dispatcher.tick;
      this.pushedInTick = 0;
    }
    if (this.source !== 'live' && !this.isUnopened) {
      // Pushes of this tick do not count: a healthy client survives any burst and any single event.
      const waiting =
        (this.outbox?.size ?? 0) + Math.min(this.transport.bufferedBytes, this.ownBytes) - this.pushedInTick;
      if (waiting > settings.maxBuffered) {
        this.abort('slow');
        return false;
      }
    }
    this.pushedInTick += text.length;
    (this.outbox ??= new Outbox()).add(text, ring.head);
    if (this.outbox.size >= MAX_WRITE_BYTES && this.source === 'live') this.#advance(writeDue(this));
    dispatcher.scheduleFlush(this);
    return !this.isBehind;
  }

  /** Writes the entries of the previous channels, then makes these channels count as changed. @returns false if a write ended it */
  #changeChannels(changed: readonly string[]): boolean {
    this.#advance(writeDue(this));
    if (this.isClosed) return false;
    recordChannelChange(this, changed);
    return true;
  }

  // ---- Time

  /** Does what is due at `now`. @returns when the connection must be swept again */
  onSweep(now: number): number {
    const { heartbeat, slowTimeout } = this.host.settings;
    const expiresAt = this.expiresAt === 0 ? Infinity : this.expiresAt;
    if (now >= expiresAt) {
      this.beginClose('expired');
      return Infinity;
    }
    if (this.lifecycle === 'connecting') {
      if (now - this.lastWrite >= heartbeat) this.open();
      return Math.min(expiresAt, this.lastWrite + heartbeat);
    }
    if (this.transport.bufferedBytes > 0) {
      const { acceptedBytes } = this.transport;
      if (this.stall?.acceptedBytes !== acceptedBytes) this.stall = { acceptedBytes, since: now };
      else if (now - this.stall.since >= slowTimeout) this.abort('slow');
      const { completion } = this.host;
      const isEnding = completion !== undefined && completion !== 'growing' && this.source === 'live';
      const interval = isEnding ? END_CHECK_INTERVAL_MS : this.#sweepInterval;
      return Math.min(expiresAt, this.stall.since + slowTimeout, now + interval);
    }
    this.stall = undefined;
    if (this.host.completion !== undefined) {
      this.onLogComplete();
      if (this.isClosed) return Infinity;
    }
    if (now - this.lastWrite >= heartbeat) this.#heartbeat();
    return Math.min(expiresAt, this.lastWrite + heartbeat);
  }

  /** How often a connection with buffered bytes is swept. A close for slowness is therefore late by at most a quarter of `slowTimeout`. */
  get #sweepInterval(): number {
    const { slowTimeout, heartbeat } = this.host.settings;
    return Math.ceil(Math.min(slowTimeout, heartbeat) / 4);
  }

  /** Ends the silence: with a checkpoint if the channels were quiet, because the client's id would grow too old to resume. */
  #heartbeat(): void {
    this.#advance(writeDue(this));
    const { ring, counters, settings } = this.host;
    counters.heartbeats++;
    const mayCheckpoint = settings.controlEvents && getsPositions(this);
    const needsCheckpoint = this.source === 'live' && mayCheckpoint && this.lastSent < ring.head;
    if (needsCheckpoint) this.lastSent = ring.head;
    writeOwn(this, needsCheckpoint ? checkpointEvent(ring.headId) : HEARTBEAT);
    if (this.transport.isHeldBack) this.host.onHeldBack();
  }

  // ---- End

  /** Ends the connection in order: what was pushed leaves first, then `finalFrame`, then the end of the body. */
  beginClose(reason: CloseReason, finalFrame = ''): void {
    if (this.isClosed) return;
    this.#setClosing(reason, finalFrame, reason === 'end');
    let hasEnded = false;
    // After an exception in this tick, the error handler may still answer instead of a connection that has not opened.
    if (this.lifecycle === 'connecting') this.host.dispatcher.scheduleFlush(this);
    else hasEnded = this.#endResponse(reason === 'error');
    if (this.isClosed) return; // its transport threw
    this.lifecycle = hasEnded ? 'closed' : 'closing';
    this.#announceClose(reason);
  }

  /**
   * Ends the connection by a disconnect of the log. What is due leaves at the end of the tick, in slices: one disconnect may end
   * thousands of connections.
   */
  disconnect({ n, id, isFinal }: Disconnect): void {
    if (this.isClosed) return;
    this.#setClosing('disconnect', isFinal && this.host.settings.controlEvents ? endEvent() : '', isFinal);
    Object.assign(this.closing!, { limit: n, limitId: id });
    if (this.source === 'live') {
      // It leaves its group, so a dispatch that is in progress does not reach it: it continues from its own position.
      this.cursor = positionOf(this);
      this.cursorId = this.host.ring.idAt(this.cursor) as string;
      this.source = 'ring';
    }
    this.lifecycle = 'closing';
    this.host.dispatcher.scheduleFlush(this);
    this.#announceClose('disconnect');
  }

  /**
   * Ends the connection in order if it has written a complete log. It waits until the kernel has accepted everything, because a close
   * has a deadline and a slow client may take longer.
   */
  onLogComplete(): void {
    const { completion, timer } = this.host;
    const isClosing = this.closing !== undefined; // its lifecycle changes only after its last write
    if (completion === 'growing' || isClosing || this.source !== 'live' || this.blocked || !this.#isAtHead) return;
    if (this.transport.bufferedBytes > 0) timer.wakeAt(timer.now + END_CHECK_INTERVAL_MS);
    else this.beginClose('end');
  }

  /** Whether every entry up to the head has been written. */
  get #isAtHead(): boolean {
    return !this.preamblePending && !readsFromLog(this) && positionOf(this) >= this.host.ring.head;
  }

  /** Ends the response of a closing connection without the entries that are due: the journal has restarted. */
  closeWithoutRest(): void {
    this.closing!.isUnfinished = true;
    this.#completeClose(true);
  }

  #setClosing(reason: CloseReason, finalFrame: string, isFinal: boolean): void {
    const { producers, registry, ring } = this.host;
    const isUnfinished = reason === 'error' || (reason !== 'end' && reason !== 'handler' && producers.has(this));
    this.closing = { ...closingOf(reason, ring), finalFrame, isFinal, isUnfinished };
    registry.addClosing(this);
  }

  /** Closes the connection after an error that no caller receives. */
  closeWithError(error: unknown): void {
    this.host.report(error, this);
    if (!this.closeNow()) this.beginClose('error');
  }

  /** Completes a close that waits, without what it waits for. @returns whether the response has its end now */
  closeNow(isUnfinished = true): boolean {
    if (!this.closing?.isWaiting || this.blocked) return false;
    if (isUnfinished) this.closing.isUnfinished = true;
    this.#completeClose(true);
    return true;
  }

  /** Destroys the response of a closing connection whose deadline has passed. Nothing may write to it before its 'close' event. */
  abandonClose(): void {
    this.transport.destroy();
    this.abandon(this.closing!.reason);
  }

  /** Ends the connection at once: nothing more is written. */
  abort(reason: CloseReason): void {
    if (this.isClosed) return;
    this.transport.destroy();
    this.abandon(reason);
  }

  /** Closes the connection, but not the response: the handler or the error handler answers, or the response has closed. */
  abandon(reason: CloseReason): void {
    const { registry, replayer } = this.host;
    const wasClosed = this.isClosed;
    replayer.remove(this);
    this.source = 'none';
    this.lifecycle = 'closed';
    this.outbox = undefined;
    if (!wasClosed) {
      this.closing = closingOf(reason, this.host.ring);
      this.#announceClose(reason);
    } else this.closing!.isWaiting = false;
    registry.removeClosing(this);
  }

  /** The response has ended, or its client has disconnected. */
  onResponseClosed(): void {
    this.abandon(this.isUnopened && this.transport.responseState ? 'handler' : 'client');
  }

  /** A write threw, which only wrappers of the response do. */
  onTransportError(error: unknown): void {
    this.host.report(error, this);
    if (!this.isClosed) return this.abort('error');
    // The sweep destroys the socket at the deadline: what was written before may still be on its way.
    this.host.replayer.remove(this);
    this.source = 'none';
    this.lifecycle = 'closed';
    this.closing!.isWaiting = false;
  }

  get #hasEnded(): boolean {
    return this.lifecycle === 'closed';
  }

  #completeClose(force: boolean): void {
    if (!this.#hasEnded && this.#endResponse(force)) this.lifecycle = 'closed';
  }

  /**
   * Ends the response. A connection that is behind waits first, unless `force` is set: after `end()` the client does not
   * reconnect, so anything unsent would be lost.
   * @returns whether the response has its end now
   */
  #endResponse(force: boolean): boolean {
    const { host, transport } = this;
    const closing = this.closing!;
    closing.isWaiting = false;
    try {
      this.#advance(writeDue(this));
      if (this.#hasEnded) return true; // its cursor was overrun
      if (this.source === 'ring' && !this.preamblePending) closing.isWaiting = !force && this.cursor < closing.limit;
      else closing.isWaiting = !force && closing.isFinal && (this.preamblePending || readsFromLog(this));
      if (closing.isWaiting) return false;
      writeRest(this);
      // An answer that is not complete must not look complete: without its `end` event, the client reconnects for the rest.
      const isCutShort = closing.reason === 'end' && closing.isUnfinished;
      if (closing.finalFrame !== '' && !isCutShort) writeOwn(this, closing.finalFrame);
      if (host.completion !== undefined) closing.isUnfinished = host.completion !== 'whole' || !this.#isAtHead;
      host.replayer.remove(this);
      this.source = 'none';
      // Without control events, no missing `end` event tells a client that the answer is not complete: the connection must.
      if (closing.isUnfinished && !host.settings.controlEvents) transport.breakOff();
      else transport.end(closing.reason === 'shutdown');
      return true;
    } catch (error) {
      this.onTransportError(error); // the caller may be the hub's timer
      return false;
    }
  }

  #announceClose(reason: CloseReason): void {
    this.host.onClosed(this, reason);
    const { abortController } = this;
    if (abortController !== undefined) this.inContext(() => abortController.abort(reason));
    this.#resolveDrained();
  }
}

function closingOf(reason: CloseReason, { head, headId }: ConnectionHost['ring']): Closing {
  const flags = { isFinal: false, isUnfinished: false, isWaiting: false };
  return { reason, finalFrame: '', limit: head, limitId: headId, deadline: 0, ...flags };
}
