/*
 * The shared worker: it hosts the streams of all tabs of an origin. When it is built, it is one self-contained file.
 * It holds a lock as long as it runs. A tab that acquires this lock starts the worker again.
 */

import { type Host, makeHost } from './host.ts';
import { call } from './messages.ts';

function serve(): void {
  const hosts = new Map<string, Host<MessagePort>>();
  const lock = `sse-router ${Math.random()}`;
  const held = new Promise((resolve) => {
    void navigator.locks?.request(lock, () => {
      resolve(lock);
      return new Promise(() => {});
    });
  });

  addEventListener('connect', (event) => {
    const [port] = (event as MessageEvent).ports as [MessagePort];
    // The first message names the stream, the others are for its host.
    port.onmessage = ({ data: [name, url, settings, tabLock] }) => {
      const host: Host<MessagePort> =
        hosts.get(name) ??
        makeHost(url, settings, (to, ...message) => {
          for (const tab of to ? [to] : host.members.keys()) tab.postMessage(message);
        });
      hosts.set(name, host);
      // Not before it is held: a tab that acquired it too early would start the worker again.
      void held.then(() => port.postMessage(['lock', lock]));
      port.onmessage = ({ data: [method, ...args] }) => call(host, method, port, ...args);
      // A tab is gone when it says so, when its port closes or, after a crash, when its lock is free.
      port.addEventListener('close', () => host.leave(port));
      void navigator.locks?.request(tabLock, () => host.leave(port));
    };
  });
}

serve();
