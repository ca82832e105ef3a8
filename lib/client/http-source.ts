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

/** The default of `retry.max`, and the delay while the browser reports no network. */
const LONG_DELAY_MS = 30_000;
/** After so many frames, iterators get the time to take them; they hold twice as many. */
const BURST = 500;
/** Beyond that, setTimeout fires at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

// Not Date.now(): a clock that is set back would stop retries and the detection of silence. While a machine sleeps, this clock
// may stand still, as timers do: after the sleep, the client waits for the rest of the delay.
const now = (): number => performance.now();

export function openHttp(
  url: string,
  settings: HttpSettings,
  ...[onFrames, onStatus, onError]: SourceListener
): HttpSource {
  const { silence = 45_000, retry, isOnce } = settings;
  const { min = 1_000, max = Math.max(min, LONG_DELAY_MS) } = retry ?? {};
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
  /** The number of frames since the last pause for iterators. */
  let burst = 0;
  let failures = 0;
  let openedAt = Infinity;
  /** No retry before this time, because of a `Retry-After`. */
  let notBefore = 0;
  /** Whether the next retry is made even without a network. */
  let ignoresOffline: boolean | undefined;
  let isClosed = false;

  function stop(): void {
    attempt?.abort();
    attempt = undefined;
    due = Infinity;
    clearTimeout(timer);
  }

  /** Ends the attempt. Without a code, the server has ended the answer; a retry is made after `atLeast` ms or more. */
  function end(code?: StreamErrorCode | 'ended', status?: number, cause?: unknown, atLeast = 0): void {
    stop();
    // A quiet stream may be closed regularly. One that is closed at once must not cancel the back-off.
    if (now() - openedAt > Math.max(serverRetry, min)) failures = 0;
    if (code && code !== 'ended') onError(code, status, cause);
    if (attempt || isClosed) return; // the listener has reconnected or closed
    if (code === 'ended') return onStatus(code);
    if (isOnce || code === 'refused') return onStatus('refused');
    hasRenewed = false; // no loop of 401s: each of these attempts comes after a delay
    const doubled = Math.min((serverRetry || min) * 2 ** failures++, max);
    const delay = Math.max(serverRetry, doubled) * (serverRetry ? 1 + Math.random() / 4 : Math.random());
    notBefore = now() + atLeast;
    wait(Math.max(delay, atLeast));
  }

  const isWaiting = (): boolean => !attempt && due < Infinity;

  function wait(delay: number, evenOffline?: boolean): void {
    ignoresOffline = evenOffline;
    due = now() + Math.min(delay, MAX_DELAY_MS);
    check();
  }

  function check(): void {
    clearTimeout(timer);
    let left = due - now();
    if (isWaiting()) {
      if (left <= 0) {
        // `onLine` is a hint only: a server on this machine or behind a VPN may be there without it.
        if (navigator.onLine || ignoresOffline) return void connect();
        return wait(Math.max(max, LONG_DELAY_MS), true);
      }
    } else if (left > 0) looksSilent = false;
    else if (looksSilent) return end('silence');
    else {
      // After a long block of the page, the timer may run before the bytes that arrived meanwhile: 200 ms, then a second look.
      looksSilent = !mayBeQuiet;
      left = mayBeQuiet ? tolerated : 200;
    }
    timer = setTimeout(check, Math.min(left, MAX_DELAY_MS));
    if (isWaiting()) onStatus(navigator.onLine ? 'waiting' : 'offline');
  }

  async function connect(): Promise<void> {
    stop();
    const own = (attempt = new AbortController());
    const isOver = (): boolean => attempt !== own;
    let failure: 'headers' | 'network' = 'headers';
    mayBeQuiet = false;
    openedAt = Infinity;
    due = now() + tolerated;
    check();
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
      if (status === 204) return end('ended');
      if (/401|403/.test(`${status}`) && isRenewable && !hasRenewed && !isOnce) {
        hasRenewed = true;
        return void connect();
      }
      if (/^4(?!08|25|29)/.test(`${status}`)) return end('refused', status);
      if (status !== 200 || !/^text\/event-stream\b/i.test(headers.get('content-type')!)) {
        const after = headers.get('retry-after')!; // seconds or a date
        const atLeast = +after * 1000 || Date.parse(after) - Date.now() || 0;
        return end(status === 200 ? 'type' : 'status', status, undefined, atLeast);
      }
      // A server without heartbeats may be quiet for long: only after a comment is silence a failure.
      mayBeQuiet = true;
      hasRenewed = false;
      openedAt = now();
      onStatus('open');
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      const parse = makeParser(position, (ms) => {
        if (ms === undefined) mayBeQuiet = false;
        else serverRetry = ms || 1; // never a loop without a delay
      });
      for (;;) {
        const { done, value } = await reader.read();
        if (isOver()) return;
        // Servers break off the answer to a POST that did not finish, so a normal end completes it.
        if (done) return end(isOnce ? 'ended' : undefined);
        due = now() + tolerated;
        const rest = parse(value);
        while (rest.length) {
          const frames = rest.splice(0, BURST);
          const last = frames.at(-1)!;
          failures = 0;
          position = last.id;
          onFrames(frames);
          burst += frames.length;
          // A `for await` takes some three microtasks an event. Without them, it would fall behind within one chunk. A timer would
          // do as well, but a hidden page has only one a second.
          if (burst >= BURST) for (burst = 10 * BURST; burst; burst--) await Promise.resolve();
          if (isOver()) return;
          if (last.isEnd) return end('ended');
        }
      }
    } catch (error) {
      if (!isOver()) end(failure, undefined, error);
    }
  }

  if (!settings.isResting) void connect();
  return {
    check,
    reconnect: () => void connect(),
    wake(isOnline) {
      // Not all clients of a network at once, and none before its `Retry-After`.
      if (isWaiting()) wait(Math.max(isOnline ? Math.random() * 1_000 : 0, notBefore - now()), true);
    },
    fail: () => attempt && end('network'),
    close() {
      isClosed = true;
      stop();
    },
  };
}
