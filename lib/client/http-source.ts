/*
 * One HTTP stream that is opened again whenever it is lost, in a page or in a worker.
 * It has at most one request at a time: `attempt` is its abort controller, and nothing of an earlier request is reported.
 * It has one timer, for what is due next: the end of the silence that it tolerates, or a retry. `check()` compares times, so
 * a call from elsewhere can stand in for a timer that the browser throttles.
 */

import { makeParser } from './parser.ts';
import type { RequestHeaders, RequestSettings, Source, SourceListener } from './source.ts';
import type { StreamErrorCode } from './stream-error.ts';

export interface HttpSettings extends RequestSettings {
  /** Whether the request must not be repeated, as it is a POST. */
  readonly isOnce?: boolean;
  readonly fetch?: typeof fetch;
  /** Whether the first request waits for `reconnect()`. */
  readonly isResting?: boolean;
  /** The id with which the first request resumes. */
  readonly from: string;
  /** Returns the headers of the next request. */
  headers(): Promise<RequestHeaders>;
}

export interface HttpSource extends Source {
  /** Does what is due: retries, or gives up a silent connection. */
  check(): void;
}

// Not Date.now(): a clock that is set back would stop retries and the detection of silence. While a machine sleeps, this clock
// may stand still, as timers do: after the sleep, the client waits for the rest of the delay.
const now = (): number => performance.now();

export function openHttp(
  url: string,
  settings: HttpSettings,
  ...[onFrames, onStatus, onError]: SourceListener
): HttpSource {
  const { silence = 45_000, retry: { min = 1_000, max = 30_000 } = {}, isOnce } = settings;
  const tolerated = silence || Infinity;
  let position = settings.from;
  /** The request that is under way or open. */
  let attempt: AbortController | undefined;
  /** When a silent request is given up or, without a request, when the next one is made. */
  let due = Infinity;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let mayBeQuiet = false;
  let looksSilent = false;
  /** Whether the next 401 or 403 is final, because the headers have been asked for again. */
  let hasRenewed = false;
  let serverRetry = 0;
  let failures = 0;
  let isClosed = false;

  function stop(): void {
    attempt?.abort();
    attempt = undefined;
    due = Infinity;
    clearTimeout(timer);
  }

  /** Ends the stream: it is complete. */
  function finish(): void {
    stop();
    onStatus('ended');
  }

  /** Ends the attempt. Without a code, the server has ended the answer; a retry is made after `atLeast` ms or more. */
  function end(code?: StreamErrorCode, status?: number, cause?: unknown, atLeast = 0): void {
    stop();
    if (code) onError(code, status, cause);
    if (attempt || isClosed) return; // the listener has reconnected or closed
    if (isOnce || code === 'refused') return onStatus('refused');
    hasRenewed = false; // no loop of 401s: each of these attempts comes after a delay
    const doubled = Math.min((serverRetry || min) * 2 ** failures++, max);
    const delay = Math.max(serverRetry, doubled) * (serverRetry ? 1 + Math.random() / 4 : Math.random());
    wait(Math.max(delay, atLeast));
  }

  const isWaiting = (): boolean => !attempt && due < Infinity;

  function wait(delay: number): void {
    due = now() + delay;
    check();
  }

  function check(): void {
    clearTimeout(timer);
    let left = due - now();
    if (isWaiting()) {
      // Without a network there is no timer: `online`, a visible page or `reconnect()` makes the next request.
      if (!navigator.onLine) return onStatus('offline');
      if (left <= 0) return void connect();
      onStatus('waiting');
    } else if (left > 0) looksSilent = false;
    else if (looksSilent) return end('silence');
    else {
      // After a long block of the page, the timer may run before the bytes that arrived meanwhile: 200 ms, then a second look.
      looksSilent = !mayBeQuiet;
      left = mayBeQuiet ? tolerated : 200;
    }
    timer = setTimeout(check, Math.min(left, 2e9)); // beyond 2 ** 31, setTimeout fires at once
  }

  async function connect(): Promise<void> {
    stop();
    const own = (attempt = new AbortController());
    const isOver = (): boolean => attempt !== own;
    let failure: 'headers' | 'network' = 'headers';
    mayBeQuiet = false;
    wait(tolerated);
    onStatus('connecting');
    try {
      const [fields, isRenewable] = await settings.headers();
      if (isOver()) return;
      failure = 'network';
      const response = await (settings.fetch ?? fetch)(url, {
        ...settings.init,
        cache: 'no-store',
        headers: {
          accept: 'text/event-stream',
          ...fields,
          // `Headers` throws beyond Latin-1: unescape() turns the id into its UTF-8 bytes, which is what servers read.
          ...(position && { 'last-event-id': unescape(encodeURIComponent(position)) }),
        },
        signal: own.signal,
      });
      if (isOver()) return;
      const { status, headers } = response;
      if (status === 204) return finish();
      if (/40[13]/.test(status as never) && isRenewable && !hasRenewed && !isOnce) {
        hasRenewed = true;
        return connect(); // oxlint-disable-line typescript/return-await -- it never rejects, and every byte counts
      }
      if (/^4(?!08|25|29)/.test(status as never)) return end('refused', status);
      if (status !== 200 || !/^text.event-stream\b/i.test(headers.get('content-type')!)) {
        const after = headers.get('retry-after')!; // seconds or a date
        const atLeast = +after * 1000 || Date.parse(after) - Date.now() || 0;
        return end(status === 200 ? 'type' : 'status', status, undefined, atLeast);
      }
      // A server without heartbeats may be quiet for long: only after a comment is silence a failure.
      mayBeQuiet = true;
      hasRenewed = false;
      onStatus('open');
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      const parse = makeParser(position, (ms) => {
        if (ms) serverRetry = ms;
        else {
          // A stream without events may be closed regularly. One that is closed at once, after its first comment, has failed.
          if (!mayBeQuiet) failures = 0;
          mayBeQuiet = false;
        }
      });
      for (;;) {
        const { done, value } = await reader.read();
        if (isOver()) return;
        // Servers break off the answer to a POST that did not finish, so a normal end completes it.
        if (done) return isOnce ? finish() : end();
        due = now() + tolerated;
        const frames = parse(value);
        const last = frames.at(-1);
        if (last) {
          failures = 0;
          position = last.id;
          onFrames(frames);
          if (isOver()) return;
          if (last.isEnd) return finish();
        }
      }
    } catch (error) {
      if (!isOver()) end(failure, undefined, error);
    }
  }

  if (!settings.isResting) void connect();
  return {
    check,
    reconnect: connect,
    wake(isOnline) {
      if (!isWaiting()) return;
      // Not all clients of a network at once.
      if (isOnline) wait(Math.random() * 1_000);
      else void connect();
    },
    close() {
      isClosed = true;
      stop();
    },
  };
}
