/*
 * One stream for all tabs: how a tab reaches the host of the stream.
 * The host runs in a shared worker. Without one, Web Locks select a tab that hosts. Without locks, the tab has its own stream.
 */

import type { Tabs } from './event-stream.ts';
import { openHttp } from './http-source.ts';
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
    throw new TypeError(`key must be a string; received ${String(key)}. Use '' for a public stream.`);
  const warnings = new Set<string>();

  function warn(text: string): void {
    if (!warnings.has(text)) console.warn(`sse-router: ${text}`);
    warnings.add(text);
  }

  return {
    key,
    check({ method }) {
      if (method === 'POST')
        throw new TypeError('method must be GET with tabs; received POST. A POST belongs to one tab.');
    },
    join(url, options, place, ...listener) {
      const { locks } = navigator;
      const name = `sse-router/1 ${key} ${url}`;
      const lock = `${name} ${Math.random()}`;
      const { credentials, silence, retry } = options;
      const settings = { init: { credentials }, silence, retry };
      const life = new AbortController();
      const { signal } = life;
      let transport: Transport | undefined;
      const link: TabLink = makeLink(place, options, (...message) => transport?.post(...message), listener);

      function useWorker(): void {
        transport?.stop();
        const fail = (): void => {
          if (transport !== own) return;
          own.stop();
          warn('the shared worker does not start; a tab hosts the stream.');
          useLeader();
        };
        // Half the time twice: after a long block of the page, a single timer would be due before the message of the worker.
        let timer = setTimeout(() => (timer = setTimeout(fail, 1_500)), 1_500);
        let port: MessagePort | undefined;
        const own: Transport = {
          post: (...message) => port!.postMessage(message),
          stop() {
            clearTimeout(timer);
            port?.close();
          },
        };
        transport = own;
        try {
          const started = startWorker(worker);
          started.onerror = fail;
          port = started.port;
          port.onmessage = ({ data: [method, ...args] }) => {
            clearTimeout(timer);
            call(link, method, ...args);
          };
          // The lock is free when the worker has crashed.
          link.lock = (workerLock) => void locks.request(workerLock, { signal }, useWorker).catch(() => {});
          port.postMessage([name, url, settings, lock]);
          link.join();
        } catch {
          fail();
        }
      }

      function useLeader(): void {
        if (locks) {
          transport = joinLeader(name, url, { ...settings, fetch: options.fetch }, place, link, lock);
          link.join();
        } else {
          const own = openHttp(
            url,
            { ...settings, fetch: options.fetch, from: place.id, headers: () => headersOf(options) },
            ...listener,
          );
          transport = { post: (_method, what, ...args) => call(own, what as string, ...args), stop: () => own.close() };
        }
      }

      function start(): void {
        if (options.fetch || !globalThis.SharedWorker) useLeader();
        else useWorker();
      }

      if (locks) {
        // Held as long as the tab has a part in the stream: the host sees by it that the tab has crashed.
        const held = async (): Promise<void> => {
          start();
          const { held } = await locks.query();
          const streams = held!.map((one) => /^(sse-router\/1 .*) 0\.\d+$/.exec(one.name!)?.[1]).filter(Boolean);
          if (new Set(streams).size > 4)
            warn('more than 4 streams; over HTTP/1.1 a browser has 6 connections to a server.');
          return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
        };
        locks.request(lock, { signal }, held).catch(() => {});
      } else start();
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

function startWorker(worker: SharedOptions['worker']): SharedWorker {
  // Bundlers find the worker by exactly this expression. The version of the messages is in its name: the worker of a new build
  // runs beside the old one.
  if (!worker)
    return new SharedWorker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'sse-router/1' });
  const name = 'sse-router/1';
  return typeof worker === 'function' ? worker(name) : new SharedWorker(worker, { type: 'module', name });
}
