/*
 * One open stream in a test: what arrives on it, and the ways to close it.
 * Invariant: each event comes out at most once, in the order of arrival.
 * Invariant: when `closed` has settled, nothing of the stream is left open.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { readBody } from '../http-client/body.ts';
import { EventReader } from '../http-client/event-reader.ts';
import { isEventStream } from '../http-client/request.ts';
import { invalid } from '../validation/validate.ts';
import { checkCount, checkResult, checkTimeout } from './arguments.ts';
import type { ConnectOptions } from './connect.ts';
import { ReceivedEvent, type TestEvent } from './event.ts';
import { failureMessage } from './failure-message.ts';
import { fakeTimerHint, Waiter } from './waiter.ts';

/** How a stream ended: the server ended it, the TCP connection broke (or `cut()` broke it), or `close()` was called. */
export type StreamOver = 'end' | 'cut' | 'close';

/** @internal The parts of a stream that `connect()` provides. */
export interface StreamParts<Events> {
  readonly response: IncomingMessage;
  readonly socket: Socket;
  readonly request: string;
  readonly lastEventId: string;
  readonly timeout: number;
  readonly release: () => Promise<void>;
  readonly reopen: (lastEventId: string, options: ConnectOptions) => Promise<TestStream<Events>>;
}

const OUTCOMES = { end: 'ended by the server', cut: 'the connection broke', close: 'closed by this test' };

/** A real connection to a server of events, opened by `connect()`. */
export class TestStream<Events = Record<string, any>> {
  /** The status of the response. A response that is not an event stream is not an error; `body()` returns its text. */
  readonly status: number;
  /** The headers of the response, with names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** All comments so far, in order; a heartbeat `:\n` is `''`. */
  readonly comments: readonly string[];
  /** All events so far, whether taken or not. */
  readonly events: readonly TestEvent<Events>[];
  readonly #parts: StreamParts<Events>;
  readonly #reader: EventReader;
  readonly #waiter = new Waiter();
  readonly #comments: string[] = [];
  readonly #events: TestEvent<Events>[] = [];
  readonly #chunks: Buffer[] = [];
  #taken = 0;
  #retry: number | undefined;
  #paused = false;
  #outcome: StreamOver | undefined;
  readonly #closed: Promise<StreamOver>;
  #resolveClosed!: (outcome: StreamOver) => void;

  /** @internal */
  constructor(parts: StreamParts<Events>) {
    const { response } = parts;
    this.#parts = parts;
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.comments = this.#comments;
    this.events = this.#events;
    this.#closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#reader = new EventReader(
      {
        onEvent: ({ event, data, id, lastEventId }) => {
          this.#events.push(new ReceivedEvent(event, data, id, lastEventId) as TestEvent<Events>);
        },
        onComment: (text) => this.#comments.push(text),
        onRetry: (milliseconds) => (this.#retry = milliseconds),
      },
      parts.lastEventId,
    );
    // A test that fails before its close() must not keep the test runner's process alive.
    parts.socket.unref();
    readBody(response, {
      onChunk: (chunk) => this.#onChunk(chunk),
      onEnd: () => this.#finish('end'),
      onBroken: () => this.#finish('cut'),
    });
  }

  /**
   * Settles when the stream is over and nothing is left open; never rejects. Reading this property keeps the process alive
   * until then.
   */
  get closed(): Promise<StreamOver> {
    if (!this.ended) this.#parts.socket.ref();
    return this.#closed;
  }

  /** The last `retry:` in milliseconds; `undefined` before the first. */
  get retry(): number | undefined {
    return this.#retry;
  }

  /** The id that a client would send when it reconnects: the one of `connect()`, until an event has brought another. */
  get lastEventId(): string {
    return this.#reader.lastEventId;
  }

  /** Whether the stream is over. Events that arrived before can still be taken. */
  get ended(): boolean {
    return this.#outcome !== undefined;
  }

  /** All text received so far, decompressed if necessary, without an incomplete character at its end. */
  get text(): string {
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(this.#chunks), { stream: true });
  }

  /**
   * Returns the next event, in the order of arrival. With a name, it is the next event of this name (`message` for an event without
   * one), and the events before it are skipped: `next('order')` skips a `checkpoint`.
   *
   * @throws Error if none arrives within `timeout` milliseconds or the stream is over; the message shows what was received.
   */
  next(timeout?: number): Promise<TestEvent<Events>>;
  next<Name extends keyof Events & string>(name: Name, timeout?: number): Promise<TestEvent<Pick<Events, Name>>>;
  async next(first?: string | number, second?: number): Promise<TestEvent<Events>> {
    if (first !== undefined && typeof first !== 'string' && typeof first !== 'number') {
      throw invalid('The first argument of next()', 'the name of an event or a number of milliseconds', first, {
        cure: "Pass a name, as in next('order'), or nothing for the next event of any name.",
      });
    }
    const [name, timeout = this.#parts.timeout] = typeof first === 'string' ? [first, second] : [undefined, first];
    checkTimeout(timeout);
    const event = await this.#waiter.wait(() => this.#take(name), timeout);
    if (event === undefined)
      throw this.#failure(name === undefined ? 'an event' : `an event ${JSON.stringify(name)}`, timeout);
    return event;
  }

  /** Returns the next `count` events. The timeout applies to each of them. */
  async take(count: number, timeout: number = this.#parts.timeout): Promise<TestEvent<Events>[]> {
    checkCount(count);
    checkTimeout(timeout);
    const events: TestEvent<Events>[] = [];
    // One after the other on purpose: each has the full time.
    while (events.length < count) events.push(await this.next(timeout));
    return events;
  }

  /**
   * Waits until a condition is true, such as `() => stream.comments.length === 2`. It is evaluated whenever bytes arrive, and must
   * not be asynchronous.
   *
   * @throws Error if it is not true within `timeout` milliseconds or the stream is over; the message shows what was received.
   */
  async until(condition: (stream: this) => boolean, timeout: number = this.#parts.timeout): Promise<void> {
    if (typeof condition !== 'function') {
      throw invalid('The condition of until()', 'a function', condition, {
        cure: 'Pass a function, as in until(() => stream.comments.length === 2).',
      });
    }
    checkTimeout(timeout);
    const isMet = await this.#waiter.wait(() => checkResult(condition(this)) || undefined, timeout);
    if (isMet === undefined) throw this.#failure(String(condition), timeout);
  }

  /** Iterates over the events until the stream is over; a broken connection is an error. Leaving the loop keeps the stream open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<TestEvent<Events>, void, undefined> {
    for (;;) {
      const event = await this.#waiter.wait(() => this.#take(), this.#parts.timeout);
      if (event !== undefined) yield event;
      else if (this.#outcome === undefined || this.#outcome === 'cut')
        throw this.#failure('an event', this.#parts.timeout);
      else return;
    }
  }

  /**
   * Returns the whole text of the response, once the server has ended it.
   *
   * @throws Error if it does not end within `timeout` milliseconds, or if the connection breaks.
   */
  async body(timeout: number = this.#parts.timeout): Promise<string> {
    checkTimeout(timeout);
    const outcome = await this.#waiter.wait(() => this.#outcome, timeout);
    if (outcome === undefined || outcome === 'cut') throw this.#failure('the end of the stream', timeout);
    return this.text;
  }

  /** Stops reading from the socket, as a slow client does. The kernel still accepts what its buffers hold (up to some MB). */
  pause(): void {
    this.#paused = true;
    this.#parts.response.pause();
    this.#parts.socket.pause();
  }

  /** Continues reading. */
  resume(): void {
    this.#paused = false;
    this.#parts.socket.resume();
    this.#parts.response.resume();
  }

  /** Closes the connection in order (FIN), and waits until nothing is left open. Does nothing if the stream is over. */
  async close(): Promise<void> {
    this.#finish('close');
    await this.#closed;
  }

  /** Breaks the TCP connection (RST), as a lost network does, and waits until nothing is left open. */
  async cut(): Promise<void> {
    const { socket } = this.#parts;
    // A TLS socket has no handle that could be reset; #finish only destroys it, as it destroys every socket.
    if (!this.ended && !('encrypted' in socket)) socket.resetAndDestroy();
    this.#finish('cut');
    await this.#closed;
  }

  /**
   * Reconnects as a browser does: to the same path, with the same options and the last event id, on a new connection.
   * Closes this one if it is open. Options replace those of the first connection, header by header.
   */
  async reconnect(options: ConnectOptions = {}): Promise<TestStream<Events>> {
    await this.close(); // first, as a browser does: a limit per client must not count both
    return this.#parts.reopen(this.lastEventId, options);
  }

  /** Closes the stream at the end of a block: `await using stream = await connect(…)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(name?: string): TestEvent<Events> | undefined {
    const index =
      name === undefined ? this.#taken : this.#events.findIndex((event, n) => n >= this.#taken && event.event === name);
    const event = this.#events[index];
    if (event !== undefined) this.#taken = index + 1;
    return event;
  }

  #onChunk(chunk: Buffer): void {
    this.#chunks.push(chunk);
    if (this.status >= 200 && this.status < 300 && isEventStream(this.headers)) this.#reader.feed(chunk);
    this.#waiter.check();
  }

  #finish(outcome: StreamOver): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    this.#waiter.check();
    this.#waiter.end();
    void this.#closeConnection(outcome);
  }

  async #closeConnection(outcome: StreamOver): Promise<void> {
    const { response, socket, release } = this.#parts;
    const closed = socket.closed ? undefined : new Promise((resolve) => socket.once('close', resolve));
    response.destroy();
    socket.destroy();
    await closed;
    await release();
    this.#resolveClosed(outcome);
  }

  #failure(expected: string, timeout: number): Error {
    const outcome = this.#outcome;
    const reason =
      outcome === undefined
        ? `not within ${timeout} ms${fakeTimerHint()}`
        : `the stream is over (${OUTCOMES[outcome]})`;
    const state = outcome === undefined ? `open${this.#paused ? ', paused by pause()' : ''}` : OUTCOMES[outcome];
    return new Error(failureMessage(`Waited for ${expected}: ${reason}`, this.#parts.request, state, this));
  }
}
