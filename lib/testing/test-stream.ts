/*
 * One open stream in a test: what arrives on it, and the ways to lose it.
 * Knows node:http's client side, Intake and Waiting; where it leads to, and how to get there again, is given to it.
 * Invariant: events come out once, in the order of the wire; when `closed` has settled, nothing of the stream is left open.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectOptions } from './connect.ts';
import { readContent } from './body.ts';
import type { ReceivedEvent, TestEvent } from './event.ts';
import { Intake } from './event-reader.ts';
import { report } from './failure-message.ts';
import { heldBack, Waiting } from './waiter.ts';

/** How a stream went: the server ended it, the TCP connection broke (or `cut()` broke it), or `close()` was called. */
export type StreamOver = 'end' | 'cut' | 'close';

/** @internal What a stream is made of. */
export interface StreamParts<Events> {
  readonly response: IncomingMessage;
  readonly socket: Socket;
  readonly request: string;
  readonly lastEventId: string;
  readonly timeout: number;
  readonly leave: () => Promise<void>;
  readonly reopen: (options: ConnectOptions) => Promise<TestStream<Events>>;
}

const WORDS = { end: 'ended by the server', cut: 'the connection broke', close: 'closed by this test' };

/** A real connection to a server of events. Made by `connect()`. */
export class TestStream<Events = Record<string, any>> {
  /** The answer's status. An answer that is not an event stream is no error: `body()` has its text. */
  readonly status: number;
  /** The answer's headers, their names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** All comments so far, in order; a heartbeat `:\n` is `''`. */
  readonly comments: readonly string[];
  /** All events so far, whether taken or not. */
  readonly events: readonly TestEvent<Events>[];
  readonly #parts: StreamParts<Events>;
  readonly #intake: Intake;
  readonly #waiting = new Waiting();
  readonly #comments: string[] = [];
  readonly #events: TestEvent<Events>[] = [];
  readonly #chunks: Buffer[] = [];
  #taken = 0;
  #retry: number | undefined;
  #paused = false;
  #over: StreamOver | undefined;
  readonly #closed: Promise<StreamOver>;
  #settle!: (over: StreamOver) => void;

  /** @internal */
  constructor(parts: StreamParts<Events>) {
    const { response } = parts;
    this.#parts = parts;
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.comments = this.#comments;
    this.events = this.#events;
    this.#closed = new Promise((resolve) => (this.#settle = resolve));
    this.#intake = new Intake(
      {
        event: (event) => this.#events.push(event as ReceivedEvent as TestEvent<Events>),
        comment: (text) => this.#comments.push(text),
        retry: (milliseconds) => (this.#retry = milliseconds),
      },
      parts.lastEventId,
    );
    // A test that fails before its close() should fail, and not keep the runner from leaving.
    parts.socket.unref();
    this.#read();
  }

  /** Settles when the stream is over and nothing is left open; never rejects. Whoever asks keeps the process alive until then. */
  get closed(): Promise<StreamOver> {
    if (!this.ended) this.#parts.socket.ref();
    return this.#closed;
  }

  /** The last `retry:` in milliseconds; `undefined` before the first. */
  get retry(): number | undefined {
    return this.#retry;
  }

  /** The id that a client would come back with: what it connected with, until an event has brought another. */
  get lastEventId(): string {
    return this.#intake.lastEventId;
  }

  /** Whether the stream is over. What has arrived before that can still be taken. */
  get ended(): boolean {
    return this.#over !== undefined;
  }

  /** All text received so far, decompressed if need be; a character that is not complete yet is left out. */
  get text(): string {
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(this.#chunks), { stream: true });
  }

  /**
   * The next event, in the order of arrival.
   *
   * @throws Error when none comes within `timeout` milliseconds or the stream is over; the message shows what has been received.
   */
  async next(timeout: number = this.#parts.timeout): Promise<TestEvent<Events>> {
    const event = await this.#waiting.wait(() => this.#take(), timeout);
    if (event === undefined) throw this.#disappointed('an event', timeout);
    return event;
  }

  /** The next `count` events; the timeout is for each of them. */
  async take(count: number, timeout: number = this.#parts.timeout): Promise<TestEvent<Events>[]> {
    const events: TestEvent<Events>[] = [];
    // One after the other on purpose: each has the full time.
    // oxlint-disable-next-line no-await-in-loop
    while (events.length < count) events.push(await this.next(timeout));
    return events;
  }

  /**
   * Waits until a condition holds, such as `() => stream.comments.length === 2`. It is looked at whenever bytes arrive.
   *
   * @throws Error when it does not hold within `timeout` milliseconds or the stream is over; the message shows what has been received.
   */
  async until(condition: (stream: this) => boolean, timeout: number = this.#parts.timeout): Promise<void> {
    const held = await this.#waiting.wait(() => condition(this) || undefined, timeout);
    if (held === undefined) throw this.#disappointed(String(condition), timeout);
  }

  /** Every event until the stream is over; a connection that breaks is an error. Leaving the loop leaves the stream open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<TestEvent<Events>, void, undefined> {
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop
      const event = await this.#waiting.wait(() => this.#take(), this.#parts.timeout);
      if (event !== undefined) yield event;
      else if (this.#over === undefined || this.#over === 'cut')
        throw this.#disappointed('an event', this.#parts.timeout);
      else return;
    }
  }

  /**
   * The whole text of the answer, once the server has ended it.
   *
   * @throws Error when it does not end within `timeout` milliseconds, or breaks off.
   */
  async body(timeout: number = this.#parts.timeout): Promise<string> {
    const over = await this.#waiting.wait(() => this.#over, timeout);
    if (over === undefined || over === 'cut') throw this.#disappointed('the end of the stream', timeout);
    return this.text;
  }

  /** Reads nothing more from the socket: a slow reader. The kernel still takes what its own buffers hold (up to some MB). */
  pause(): void {
    this.#paused = true;
    this.#parts.response.pause();
    this.#parts.socket.pause();
  }

  /** Reads on. */
  resume(): void {
    this.#paused = false;
    this.#parts.socket.resume();
    this.#parts.response.resume();
  }

  /** Leaves politely (FIN), and waits until nothing is left open. Does no harm when the stream is over. */
  async close(): Promise<void> {
    this.#finish('close');
    await this.#closed;
  }

  /** Breaks the TCP connection (RST), as a network does that has gone, and waits until nothing is left open. */
  async cut(): Promise<void> {
    const { socket } = this.#parts;
    // A TLS socket has no handle that could be reset; it is only destroyed, as #finish does anyhow.
    if (!this.ended && !('encrypted' in socket)) socket.resetAndDestroy();
    this.#finish('cut');
    await this.#closed;
  }

  /**
   * Comes back as a browser would: to the same place, with the same options and the last event id, on a new connection.
   * Closes this one if it is open. Options replace those of the first connection, header by header.
   */
  async reconnect(options: ConnectOptions = {}): Promise<TestStream<Events>> {
    await this.close(); // first, as a browser does: a limit per client must not count both
    return this.#parts.reopen({ lastEventId: this.lastEventId, ...options });
  }

  /** `await using stream = await connect(…)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(): TestEvent<Events> | undefined {
    return this.#taken < this.#events.length ? this.#events[this.#taken++] : undefined;
  }

  #read(): void {
    readContent(this.#parts.response, {
      chunk: (chunk) => this.#received(chunk),
      end: () => this.#finish('end'),
      broken: () => this.#finish('cut'),
    });
  }

  #received(chunk: Buffer): void {
    this.#chunks.push(chunk);
    if (this.#isEventStream()) this.#intake.feed(chunk);
    this.#waiting.look();
  }

  #isEventStream(): boolean {
    const good = this.status >= 200 && this.status < 300;
    return good && /^text\/event-stream\s*(?:;|$)/i.test(this.headers['content-type'] ?? '');
  }

  #finish(over: StreamOver): void {
    if (this.#over !== undefined) return;
    this.#over = over;
    this.#waiting.look();
    this.#waiting.end();
    void this.#putAway(over);
  }

  async #putAway(over: StreamOver): Promise<void> {
    const { response, socket, leave } = this.#parts;
    const gone = socket.closed ? undefined : new Promise((resolve) => socket.once('close', resolve));
    response.destroy();
    socket.destroy();
    await gone;
    await leave();
    this.#settle(over);
  }

  #disappointed(what: string, timeout: number): Error {
    const over = this.#over;
    const why = over === undefined ? `not within ${timeout} ms${heldBack()}` : `the stream is over (${WORDS[over]})`;
    const state = over === undefined ? `open${this.#paused ? ', paused by pause()' : ''}` : WORDS[over];
    return new Error(report(`Waited for ${what}: ${why}`, this.#parts.request, state, this));
  }
}
