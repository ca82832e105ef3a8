/*
 * One connection to the server: sends the request as a browser does, follows redirects, reads the stream and records the times.
 * Invariant: while the listener accepts nothing, the connection reads nothing, so the server is slowed down and no memory grows.
 * Invariant: `run()` settles once, when nothing of the connection is left open, and never rejects.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { urlToHttpOptions } from 'node:url';
import { types } from 'node:util';
import { readBody } from '../http-client/body.ts';
import { EventReader, type ParsedEvent } from '../http-client/event-reader.ts';
import { isEventStream, sendRequest } from '../http-client/request.ts';
import { hasValidCredentials } from './arguments.ts';
import { ArrivalLog } from './arrival-log.ts';

/** The request of one connection. */
export interface TailRequest {
  readonly url: URL;
  /** With names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly post: string | undefined;
  readonly lastEventId: string;
}

/** The head of a response. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
}

/** Callbacks of a {@link TailConnection}. */
export interface TailListener {
  onRedirect(to: URL): void;
  onHead(head: ResponseHead, arrivals: ArrivalLog): void;
  onEvent(event: ParsedEvent): void;
  onComment(text: string): void;
  onRetry(milliseconds: number): void;
  /** Resolves when the listener accepts more; `undefined` if it does now. */
  readonly drained: Promise<void> | undefined;
}

/** How a connection ended. */
export type Outcome =
  /** The server ended the stream, the connection broke, the server answered 204, or the signal aborted. */
  | { readonly kind: 'ended' | 'broken' | 'no-content' | 'stopped' }
  /** The response is not an event stream; `text` is the start of it. */
  | { readonly kind: 'not-a-stream'; readonly text: string }
  /** There was no response. */
  | { readonly kind: 'no-response'; readonly error: Error };

const MAX_REDIRECTS = 5;
/** How many characters of a response that is not an event stream are shown, and how long to wait for them. */
const MAX_TEXT_LENGTH = 1024;
const TEXT_TIMEOUT_MS = 1000;

/** One connection. */
export class TailConnection {
  readonly arrivals = new ArrivalLog();
  head: ResponseHead | undefined;
  readonly #request: TailRequest;
  readonly #listener: TailListener;
  readonly #reader: EventReader;
  readonly #startedAt = performance.now();

  constructor(request: TailRequest, listener: TailListener) {
    this.#request = request;
    this.#listener = listener;
    this.#reader = new EventReader(
      {
        onEvent: (event) => {
          this.arrivals.event(this.now(), event.id !== undefined);
          listener.onEvent(event);
        },
        onComment: (text) => {
          this.arrivals.comment(text);
          listener.onComment(text);
        },
        onRetry: (milliseconds) => listener.onRetry(milliseconds),
      },
      request.lastEventId,
    );
  }

  /** The id for the next connection. */
  get lastEventId(): string {
    return this.#reader.lastEventId;
  }

  /** Returns the milliseconds since the request. */
  now(): number {
    return performance.now() - this.#startedAt;
  }

  /** Connects and reads until the stream is over or the signal aborts. */
  async run(signal: AbortSignal): Promise<Outcome> {
    try {
      return await this.#followRedirects(signal);
    } catch (error) {
      if (signal.aborted) return { kind: 'stopped' };
      return { kind: 'no-response', error: types.isNativeError(error) ? error : new Error(String(error)) };
    } finally {
      this.arrivals.end(this.now());
    }
  }

  async #followRedirects(signal: AbortSignal): Promise<Outcome> {
    let { url, headers, post } = this.#request;
    for (let left = MAX_REDIRECTS; ; left--) {
      const result = await this.#send({ url, headers, post }, left > 0, signal);
      if ('kind' in result) return result;
      const { location, status } = result;
      // As fetch does: secrets are sent only to the origin that they were given for, and only 307 and 308 repeat a POST.
      if (location.origin !== url.origin) headers = withoutSecrets(headers);
      if (status < 307) post = undefined;
      url = location;
      this.#listener.onRedirect(location);
    }
  }

  /** Sends one request and reads the response, unless that is a redirect. */
  #send(
    { url, headers, post }: Pick<TailRequest, 'url' | 'headers' | 'post'>,
    mayRedirect: boolean,
    signal: AbortSignal,
  ): Promise<Redirect | Outcome> {
    const request = {
      target: urlToHttpOptions(url),
      method: post === undefined ? 'GET' : 'POST',
      headers: { 'accept-encoding': 'gzip, deflate, br', 'user-agent': 'sse-router-tail', ...headers },
      body:
        post === undefined
          ? undefined
          : { bytes: Buffer.from(post), contentType: isJson(post) ? 'application/json' : undefined },
      lastEventId: this.#request.lastEventId,
      signal,
    };
    return sendRequest(request, {
      onSocket: (socket) => {
        const event = url.protocol === 'https:' ? 'secureConnect' : 'connect';
        socket.once(event, () => (this.arrivals.milestones.connected = this.now()));
      },
      onResponse: async (response) => {
        const redirect = mayRedirect ? redirectOf(response, url) : undefined;
        const result = redirect ?? (await this.#read(response, signal));
        response.destroy();
        return result;
      },
    });
  }

  #read(response: IncomingMessage, signal: AbortSignal): Promise<Outcome> {
    this.arrivals.milestones.head = this.now();
    const head = { status: response.statusCode ?? 0, headers: response.headers };
    this.head = head;
    const isStream = head.status === 200 && isEventStream(head.headers);
    this.#listener.onHead(head, this.arrivals);
    if (head.status === 204) return Promise.resolve({ kind: 'no-content' });
    let text = '';
    const decoder = new TextDecoder();
    return new Promise((resolve) => {
      const finish = (kind: 'ended' | 'broken'): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', stop);
        if (!isStream) resolve({ kind: 'not-a-stream', text });
        else resolve({ kind: signal.aborted ? 'stopped' : kind });
      };
      // A paused response that is complete has no request to abort any more: neither its end nor its close would be reported.
      const stop = (): void => finish('broken');
      signal.addEventListener('abort', stop);
      const timer = isStream ? undefined : setTimeout(finish, TEXT_TIMEOUT_MS, 'broken');
      readBody(response, {
        onChunk: (bytes) => {
          if (isStream) {
            this.arrivals.chunk(this.now(), bytes);
            this.#reader.feed(bytes);
            this.#pauseIfFull(response);
            return;
          }
          text = (text + decoder.decode(bytes, { stream: true })).slice(0, MAX_TEXT_LENGTH);
          if (text.length === MAX_TEXT_LENGTH) finish('broken');
        },
        onEnd: () => finish('ended'),
        onBroken: () => finish('broken'),
      });
    });
  }

  #pauseIfFull(response: IncomingMessage): void {
    const { drained } = this.#listener;
    if (drained === undefined || response.isPaused()) return;
    response.pause();
    this.arrivals.pause();
    void drained.then(() => {
      this.arrivals.resume(this.now());
      response.resume();
    });
  }
}

interface Redirect {
  readonly location: URL;
  readonly status: number;
}

/** Returns where a response redirects to; `undefined` if it does not, or to no address that this command can request. */
function redirectOf({ statusCode = 0, headers }: IncomingMessage, from: URL): Redirect | undefined {
  const { location = '' } = headers;
  if (![301, 302, 303, 307, 308].includes(statusCode)) return undefined;
  if (location === '' || !URL.canParse(location, from.href)) return undefined; // '' would be the address of the request
  const target = new URL(location, from);
  if (!/^https?:$/.test(target.protocol) || !hasValidCredentials(target)) return undefined;
  return { location: target, status: statusCode };
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
