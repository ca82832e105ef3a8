/*
 * A shared stream without a worker: a Web Lock selects the tab that hosts it, the leader, and a BroadcastChannel connects the tabs.
 * A visible tab pings the leader. If the leader does not answer, the tab steals the lock.
 * A new leader first asks for the frames that it lacks, so it continues after the tab that is furthest ahead.
 */

import type { Place } from './event-stream.ts';
import { makeLog } from './frame-log.ts';
import { type Host, type HostSettings, makeHost } from './host.ts';
import { call } from './messages.ts';
import type { Transport } from './shared-tabs.ts';
import type { TabLink } from './tab-link.ts';

/**
 * Joins the tabs of this name. `tab` is the name of the lock that this tab holds. Calls `onRefused` if the browser refuses the lock
 * of the stream.
 */
export function joinLeader(
  name: string,
  url: string,
  settings: HostSettings,
  place: Place,
  link: TabLink,
  tab: string,
  onRefused: () => void,
): Transport {
  const { locks } = navigator;
  const channel = new BroadcastChannel(name);
  const bounce = new MessageChannel();
  let host: Host<string> | undefined;
  /** Aborts the newest request for the lock, and gives the lock up. */
  let candidacy: AbortController | undefined;
  /** Hosts the stream, once the tabs have had time to answer; none if this tab does not lead. */
  let begin: (() => void) | undefined;
  let beginAt = 0;
  let misses = 0;

  const inTab = {
    ...link,
    /** A new leader has had the frames of this line up to this number. */
    hello(leader: string, term: number, n: number) {
      stepDown();
      const frames = term === place.term && n < place.n && link.log!.after(n);
      if (frames) channel.postMessage([leader, 'frames', term, n, frames]);
    },
    /** A new leader hosts the stream. */
    lead(leader: string) {
      if (leader !== tab) stepDown();
      link.join();
    },
    pong() {
      misses = 0;
    },
  };

  /** Calls a method of one tab or of all, this one included. */
  function send(to: string | undefined, method: string, ...args: unknown[]): void {
    // A closed channel throws. The host may still send: the question for headers is repeated after a second.
    if (!candidacy) return;
    channel.postMessage([to, method, ...args]);
    if (!to || to === tab) call(inTab, method, ...args);
  }

  /** Calls a method of the host, wherever it is. */
  function post(method: string, ...args: unknown[]): void {
    channel.postMessage(['', method, tab, ...args]);
    call(host, method, tab, ...args);
  }

  channel.onmessage = ({ data: [to, method, ...args] }) => {
    if (to !== '') {
      if (!to || to === tab) call(inTab, method, ...args);
    } else if (method === 'ping') {
      // A frozen page handles the messages of a BroadcastChannel, but none of a MessageChannel: it must not answer.
      bounce.port2.postMessage(args[0]);
    } else if (host) {
      const [other] = args;
      const isNew = method === 'join' && !host.members.has(other);
      call(host, method, ...args);
      // The lock of a tab is free when the tab has crashed. A listener of this tab may have closed the stream meanwhile.
      if (isNew && candidacy)
        locks.request(other, { signal: candidacy.signal }, () => host?.leave(other)).catch(() => {});
    }
  };

  bounce.port1.onmessage = ({ data }) => {
    if (!begin) return;
    // The timers of a hidden leader are throttled, those of the visible tab that pings are not.
    if (Date.now() > beginAt) begin();
    host?.members.forEach(({ line }) => line?.source!.check());
    send(data, 'pong');
  };

  function stepDown(): void {
    host?.leave();
    host = begin = undefined;
    misses = 0;
    link.log ??= makeLog(place.id, place.n);
  }

  function compete(steal = false): void {
    candidacy?.abort();
    const own = (candidacy = new AbortController());
    const { signal } = own;
    const lead = (): Promise<unknown> => {
      begin = () => {
        if (host) return;
        host = makeHost(url, settings, send, link.log);
        link.log = undefined;
        send(undefined, 'lead', tab);
      };
      beginAt = Date.now() + 50;
      if (place.term) {
        channel.postMessage([undefined, 'hello', tab, place.term, place.n]);
        setTimeout(() => begin?.(), 50);
      } else begin();
      return new Promise((resolve) => signal.addEventListener('abort', resolve));
    };
    locks.request(name, steal ? { steal } : { signal }, lead).catch((error) => {
      if (own !== candidacy) return;
      if (error.name !== 'AbortError') return onRefused();
      stepDown(); // another tab has stolen the lock
      link.join();
      compete();
    });
  }

  stepDown();
  compete();
  const pulse = setInterval(() => {
    if (host || document.hidden) misses = 0;
    else if (misses++ < 2) post('ping');
    else {
      misses = 0;
      compete(true);
    }
  }, 250);
  return {
    post,
    stop() {
      clearInterval(pulse);
      candidacy!.abort();
      candidacy = undefined;
      stepDown();
      channel.close();
      bounce.port1.close();
    },
  };
}
