/*
 * One stream for all tabs: how a tab reaches the host of the stream.
 * The host runs in a shared worker. Without one, Web Locks select a tab that hosts. Without locks, the tab has its own stream.
 * Each of these APIs may be missing, throw, reject or never answer, for example in a sandbox or a third-party frame.
 */

import type { Tabs } from './event-stream.ts';
import { type HttpSource, openHttp } from './http-source.ts';
import { joinLeader } from './leader.ts';
import { headersOf } from './request-headers.ts';
import { call } from './messages.ts';
import { makeLink, type TabLink } from './tab-link.ts';

export interface SharedOptions {
  /**
   * Tabs with the same key and URL share a stream. Use what identifies the user, and `''` for public streams: with one key for
   * all, a tab that is opened after another user has signed in would join the first user's stream.
   */
  key: string;
  /**
   * The shared worker: the URL of `sse-router/client/worker`, or a function that starts a worker of this name. By default it is
   * `worker.js` beside this module.
   */
  worker?: string | URL | ((name: string) => SharedWorker);
}

/** How a tab reaches the host. */
export interface Transport {
  post(method: string, ...args: unknown[]): void;
  stop(): void;
}

/**
 * Shares one stream between all tabs that use the same key and URL.
 * @example
 * ```ts
 * const stream = connect('/events', { tabs: shared({ key: user.id }) });
 * ```
 */
export function shared({ key, worker }: SharedOptions): Tabs {
  if (typeof key !== 'string')
    throw new TypeError(`key must be a string; received ${key as string}. Use '' for a public stream.`);
  const warnings = new Set<string>();

  function warn(text: string): void {
    if (!warnings.has(text)) console.warn(`sse-router: ${text}`);
    warnings.add(text);
  }

  return {
    key,
    check({ method }) {
      if (/^p/i.test(method!)) throw new TypeError('method must be GET with tabs; received POST. Leave tabs out.');
    },
    join(url, options, place, ...listener) {
      const name = `sse-router/1 ${key} ${url}`;
      place.isOver = false;
      const lock = `${name} ${Math.random()}`;
      const { credentials, silence, retry, fetch } = options;
      const settings = { init: { credentials }, silence, retry, fetch };
      const life = new AbortController();
      const { signal } = life;
      /** The browser's locks, once this tab holds its own: the host sees by it that the tab has crashed. */
      let locks: LockManager | undefined;
      let transport: Transport | undefined;
      const link: TabLink = makeLink(place, options, (...message) => transport?.post(...message), listener);

      function useWorker(): void {
        transport?.stop();
        let port: MessagePort | undefined;
        const stopTimer = startTimer(fail);
        const own: Transport = (transport = {
          post: (...message) => port!.postMessage(message),
          stop() {
            stopTimer();
            port?.close();
          },
        });

        function fail(): void {
          if (transport !== own) return;
          own.stop();
          warn('the shared worker failed.');
          useLeader();
        }

        try {
          const started = startWorker(worker);
          started.onerror = fail;
          port = started.port;
          port.onmessage = ({ data: [method, ...args] }) => {
            stopTimer();
            call(link, method, ...args);
          };
          // The lock is free when the worker has crashed.
          link.lock = (workerLock) => void locks?.request(workerLock, { signal }, useWorker).catch(() => {});
          // No lock has a name that begins with a hyphen: the worker must not acquire a lock that the tab does not hold.
          port.postMessage([name, url, settings, locks ? lock : '-']);
          link.join();
        } catch {
          fail();
        }
      }

      function useLeader(): void {
        if (!locks) return useOwn();
        try {
          transport = joinLeader(name, url, settings, place, link, lock, useOwn);
          link.join();
        } catch {
          useOwn(); // there is no BroadcastChannel, or it is forbidden
        }
      }

      function useOwn(): void {
        transport?.stop();
        // oxlint-disable-next-line prefer-const -- a listener of the first status may close the stream before it is assigned
        let own: HttpSource | undefined;
        transport = { post: (_method, what, ...args) => call(own, what as string, ...args), stop: () => own?.close() };
        own = openHttp(url, { ...settings, from: place.id, headers: () => headersOf(options) }, ...listener);
        if (signal.aborted) own.close();
        delete place.term; // from now on, the numbers of the shared stream do not count the events of this tab
      }

      /** Begins, once: with the lock of this tab or, where locks do not work, without. */
      function begin(held?: LockManager): void {
        if (transport || signal.aborted) return;
        locks = held;
        if (fetch || !globalThis.SharedWorker) useLeader();
        else useWorker();
      }

      async function hold(): Promise<void> {
        begin(navigator.locks);
        try {
          const { held } = await locks!.query();
          const streams = held!.flatMap(({ name }) => /^sse-router\/1 .* (?=0\.\d+$)/.exec(name!) ?? []);
          if (new Set(streams).size > 4) warn('more than 4 streams; HTTP/1.1 has 6 connections.');
        } catch {
          // Only a warning depends on it.
        }
        // Not if it comes too late: the tab has begun without a lock, or has closed the stream.
        if (locks && !signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
      }

      // Where storage is blocked or the origin is opaque, a request for a lock throws, is rejected, or has no answer.
      // A page that is rendered in advance gets the answer when it is shown.
      startTimer(() => (document as { prerendering?: boolean }).prerendering || begin());
      (async () => navigator.locks.request(lock, { signal }, hold))().catch(() => begin());
      listener[1]('connecting');
      return {
        reconnect: () => transport?.post('act', 'reconnect'),
        wake: (isOnline) => transport?.post('act', 'wake', isOnline),
        close() {
          transport?.post('leave');
          transport?.stop();
          transport = undefined;
          life.abort();
        },
      };
    },
  };
}

/** Calls `act` after 3 s, unless the function that it returns is called before. */
function startTimer(act: () => void): () => void {
  // Half the time twice: after a long block of the page, a single timer would be due before the answer.
  let timer = setTimeout(() => (timer = setTimeout(act, 1_500)), 1_500);
  return () => clearTimeout(timer);
}

function startWorker(worker: SharedOptions['worker']): SharedWorker {
  // Bundlers find the worker by exactly this expression. The version of the messages is in its name: the worker of a new build
  // runs beside the old one.
  if (!worker)
    return new SharedWorker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'sse-router/1' });
  const name = 'sse-router/1';
  return typeof worker === 'function' ? worker(name) : new SharedWorker(worker, { type: 'module', name });
}
