/*
 * The tab's part of a shared stream: it follows one line of the host, by the numbers of its frames.
 * It shows each number once: it drops what it has had, and joins again where a number is missing.
 */

import type { ConnectOptions, Place } from './event-stream.ts';
import { makeLog, type FrameLog } from './frame-log.ts';
import type { TabMethods } from './messages.ts';
import { headersOf } from './request-headers.ts';
import type { Frame, SourceListener } from './source.ts';

export interface TabLink extends TabMethods {
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
  let isJoining = false;

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
      isJoining = true;
      post('join', place);
    },
    lock() {},
    follow(term, n, frames, status, was) {
      if (!isJoining && was !== place.term) return; // the late answer of a tab that hosts no more
      isJoining = false;
      place.term = term;
      take(n, frames);
      link.status(term, status);
    },
    frames(term, n, frames) {
      if (isJoining || term !== place.term) return;
      if (n > place.n) link.join();
      else take(place.n, frames.slice(place.n - n));
    },
    status(term, status) {
      if (isJoining || term !== place.term) return;
      place.isOver = status === 'ended';
      onStatus(status);
    },
    error(term, ...error) {
      if (term === place.term) onError(...error);
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
