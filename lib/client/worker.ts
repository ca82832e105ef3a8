/*
 * The shared worker: it hosts the streams of all tabs of an origin. When it is built, it is one self-contained file.
 * It holds a lock as long as it runs. A tab that acquires this lock starts the worker again.
 */

import { type Host, makeHost } from './host.ts';
import type { HostMethods } from './messages.ts';

/** Holds a lock as long as the result of `callback` is pending. Where locks do not work, tabs leave by a message or their port. */
function hold(name: string, callback: () => unknown): void {
  navigator.locks?.request(name, callback).catch(() => {});
}

function serve(): void {
  /** The hosts that have members. */
  const hosts = new Map<string, Host<MessagePort>>();
  const lock = `sse-router ${Math.random()}`;
  const held = new Promise<void>((resolve) => hold(lock, () => new Promise(resolve as never)));

  addEventListener('connect', (event) => {
    const [port] = (event as MessageEvent).ports as [MessagePort];
    // The first message names the stream, the others are for its host.
    port.onmessage = ({ data: [name, url, settings, tabLock] }) => {
      function act(method: keyof HostMethods<MessagePort>, ...args: unknown[]): void {
        const host: Host<MessagePort> =
          hosts.get(name) ??
          makeHost(url, settings, (to, ...message) => {
            if (to) to.postMessage(message);
            else host.members.forEach((_member, tab) => tab.postMessage(message));
          });
        hosts.set(name, host);
        (host[method] as (...all: unknown[]) => void)(port, ...args);
        // The next tab makes another, with its own settings.
        if (!host.members.size) hosts.delete(name);
      }
      const leave = (): void => act('leave');
      // Not before it is held: a tab that acquired it too early would start the worker again.
      void held.then(() => port.postMessage(['lock', lock]));
      port.onmessage = ({ data: [method, ...args] }) => act(method, ...args);
      // A tab has left when it sends `leave`, when its port closes or, after a crash, when its lock is free.
      port.addEventListener('close', leave);
      hold(tabLock, leave);
    };
  });
}

serve();
