/*
 * What every example needs around its few lines: it says where it listens, and leaves when it is told to.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Says the address once the server listens; `stop` runs on SIGTERM and SIGINT, before the server lets go of its port. */
export async function running(server: Server, stop?: () => Promise<void>): Promise<void> {
  if (stop) {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => void stop().finally(() => leave(server)));
    }
  }
  if (!server.listening) await once(server, 'listening');
  console.log(`listening on http://localhost:${(server.address() as AddressInfo).port}`);
}

/** Lets answers be finished, but does not wait for the sockets that browsers open in advance and never use. */
export function leave(server: Server): void {
  server.close();
  setTimeout(() => server.closeAllConnections(), 1000).unref();
}
