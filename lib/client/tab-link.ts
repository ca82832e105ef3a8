/*
 * The tab's part of a shared stream: it follows one line of the host, by the numbers of its frames.
 * It shows each number once: it drops what it has had, and joins again where a number is missing.
 */

import type { ConnectOptions, Place } from './event-stream.ts';
import { makeLog, type FrameLog } from './frame-log.ts';
import type { TabMethods } from './messages.ts';
import { headersOf } from './request-headers.ts';
import type { Frame, SourceListener } from './source.ts';

export interface TabLink extends Omit<TabMethods, 'lock'>, Partial<Pick<TabMethods, 'lock'>> {
  /** The newest frames that the tab has had, if it keeps them. */
  log?: FrameLog | undefined;
  /** Asks to follow the stream after the tab's place. */
  join(): void;
}

/** Makes the link. `post` sends a message to the host. */
export function makeLink(
  place: Place,
  options: ConnectOptions,
  post: (method: string, ...args: unknown[]) => void,
  [onFrames, onStatus, onError]: SourceListener,
): TabLink {
  /** The line that the tab follows or, from a `join` to its answer, the ticket of this `join`. */
  let key: unknown;

  function take(n: number, frames: readonly Frame[]): void {
    const { log } = link;
    if (log) {
      if (log.n !== n) link.log = makeLog(place.id, n);
      link.log!.add(frames);
    }
    place.n = n + frames.length;
    onFrames(frames);
  }

  const link: TabLink = {
    join() {
      key = Math.random();
      post('join', place, key);
    },
    follow(given, term, n, frames, status) {
      if (given !== key) return; // an answer that comes too late
      key = place.term = term;
      take(n, frames);
      link.status(term, status);
    },
    frames(term, n, frames) {
      if (term !== key) return;
      if (n > place.n) link.join();
      else take(place.n, frames.slice(place.n - n));
    },
    status(term, status) {
      if (term !== key) return;
      place.isOver = status === 'ended';
      onStatus(status);
    },
    error(term, ...error) {
      if (term === key) onError(...error);
    },
    ask(question) {
      headersOf(options).then(
        (headers) => post('answer', question, headers),
        (error) => post('answer', question, undefined, `${error}`),
      );
    },
  };
  return link;
}
