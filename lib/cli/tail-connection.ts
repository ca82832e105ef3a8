/*
 * One connection to the server: asked as a browser asks, redirects followed, its content read and timed.
 * Knows node:http's client side and the reading rooms of the testing kit; prints nothing and never comes back by itself.
 * Invariant: `run()` settles once, when nothing of the connection is left open, and never rejects.
 */
import { type IncomingMessage, type RequestOptions, request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Socket } from 'node:net';
import { types } from 'node:util';
import { readContent } from '../testing/body.ts';
import type { ReceivedEvent } from '../testing/event.ts';
import { Intake } from '../testing/event-reader.ts';
import type { Head } from './diagnosis.ts';
import { Watch } from './arrival-log.ts';

/** What is asked for. */
export interface Errand {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly post: string | undefined;
  readonly lastEventId: string;
}

/** Who is told what happens. */
export interface Visitor {
  redirected(to: URL): void;
  head(head: Head, watch: Watch): void;
  event(event: ReceivedEvent): void;
  comment(text: string): void;
  retry(milliseconds: number): void;
}

/** How a connection went: `refused` is an answer that is not an event stream, `over` a 204, `failed` no answer at all. */
export type Outcome =
  | { readonly kind: 'end' | 'cut' | 'over' | 'stopped' }
  | { readonly kind: 'refused'; readonly text: string }
  | { readonly kind: 'failed'; readonly error: Error };

const REDIRECTS = 5;
/** How much of an answer that is no event stream is shown, and how long it is waited for. */
const TEXT = 1024;
const TEXT_WAIT = 1000;

/** One connection. */
export class Visit {
  readonly watch = new Watch();
  head: Head | undefined;
  readonly #errand: Errand;
  readonly #visitor: Visitor;
  readonly #intake: Intake;
  readonly #started = performance.now();

  constructor(errand: Errand, visitor: Visitor) {
    this.#errand = errand;
    this.#visitor = visitor;
    this.#intake = new Intake(
      {
        event: (event) => {
          this.watch.event(this.now(), event.id !== undefined);
          visitor.event(event);
        },
        comment: (text) => {
          this.watch.comment(text);
          visitor.comment(text);
        },
        retry: (milliseconds) => visitor.retry(milliseconds),
      },
      errand.lastEventId,
    );
  }

  /** The id to come back with. */
  get lastEventId(): string {
    return this.#intake.lastEventId;
  }

  /** Milliseconds since the request. */
  now(): number {
    return performance.now() - this.#started;
  }

  async run(signal: AbortSignal): Promise<Outcome> {
    try {
      const response = await this.#follow(this.#errand.url, signal);
      const outcome = await this.#read(response, signal);
      response.destroy();
      return outcome;
    } catch (error) {
      if (signal.aborted) return { kind: 'stopped' };
      return { kind: 'failed', error: types.isNativeError(error) ? error : new Error(String(error)) };
    } finally {
      this.watch.end(this.now());
    }
  }

  async #follow(from: URL, signal: AbortSignal): Promise<IncomingMessage> {
    let url = from;
    let { headers, post } = this.#errand;
    for (let left = REDIRECTS; ; left--) {
      // oxlint-disable-next-line no-await-in-loop
      const response = await this.#ask(url, headers, post, signal);
      const { statusCode = 0 } = response;
      const { location = '' } = response.headers;
      const redirected = [301, 302, 303, 307, 308].includes(statusCode) && URL.canParse(location, url.href);
      if (!redirected || left === 0) return response;
      response.destroy();
      const to = new URL(location, url);
      // As fetch does: what is secret stays with the server that it was meant for, and only 307 and 308 post again.
      if (to.origin !== url.origin) headers = withoutSecrets(headers);
      if (statusCode < 307) post = undefined;
      url = to;
      this.#visitor.redirected(to);
    }
  }

  #ask(url: URL, given: Errand['headers'], post: string | undefined, signal: AbortSignal): Promise<IncomingMessage> {
    const headers: Record<string, string> = {
      accept: 'text/event-stream',
      'accept-encoding': 'gzip, deflate, br',
      'cache-control': 'no-cache',
      'user-agent': 'sse-router-tail',
    };
    if (post !== undefined) headers['content-length'] = String(Buffer.byteLength(post));
    if (post !== undefined && isJson(post)) headers['content-type'] = 'application/json';
    // node:http takes one byte a character; browsers send the id in UTF-8.
    if (this.#errand.lastEventId !== '')
      headers['last-event-id'] = Buffer.from(this.#errand.lastEventId).toString('latin1');
    const options: RequestOptions = {
      method: post === undefined ? 'GET' : 'POST',
      headers: { ...headers, ...given },
      agent: false,
      signal,
    };
    return new Promise((resolve, reject) => {
      const request = url.protocol === 'https:' ? secureRequest(url, options) : plainRequest(url, options);
      request.once('socket', (socket: Socket) => {
        const ready = url.protocol === 'https:' ? 'secureConnect' : 'connect';
        socket.once(ready, () => (this.watch.at.connected = this.now()));
      });
      request.once('response', resolve);
      request.once('close', () => reject(new Error('the connection was closed without an answer'))); // a 101, say
      request.on('error', reject); // also what comes after the answer, which the answer tells as well
      // As bytes: node:http writes the head in the encoding of a body that is a string, and breaks an id beyond ASCII.
      request.end(post === undefined ? undefined : Buffer.from(post));
    });
  }

  async #read(response: IncomingMessage, signal: AbortSignal): Promise<Outcome> {
    this.watch.at.head = this.now();
    const head = { status: response.statusCode ?? 0, headers: response.headers };
    this.head = head;
    const refused = !isEventStream(head);
    this.#visitor.head(head, this.watch);
    if (head.status === 204) return { kind: 'over' };
    let text = '';
    const decoder = new TextDecoder();
    return new Promise((resolve) => {
      const done = (kind: 'end' | 'cut'): void => {
        clearTimeout(timer);
        if (refused) resolve({ kind: 'refused', text });
        else resolve({ kind: signal.aborted ? 'stopped' : kind });
      };
      const timer = refused ? setTimeout(done, TEXT_WAIT, 'cut') : undefined;
      readContent(response, {
        chunk: (bytes) => {
          if (refused) {
            text = (text + decoder.decode(bytes, { stream: true })).slice(0, TEXT);
            if (text.length === TEXT) done('cut');
            return;
          }
          this.watch.chunk(this.now(), bytes.length);
          this.#intake.feed(bytes);
        },
        end: () => done('end'),
        broken: () => done('cut'),
      });
    });
  }
}

function isEventStream({ status, headers }: Head): boolean {
  return status === 200 && /^\s*text\/event-stream\s*(?:;|$)/i.test(headers['content-type'] ?? '');
}

function withoutSecrets({ ...headers }: Record<string, string>): Record<string, string> {
  delete headers['authorization'];
  delete headers['cookie'];
  return headers;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
