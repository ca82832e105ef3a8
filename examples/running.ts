/*
 * What every example needs besides its own code: it prints its address, and it stops on SIGTERM and SIGINT.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Prints the address once the server listens. On SIGTERM and SIGINT, calls `stop` and then closes the server. */
export async function running(server: Server, stop?: () => Promise<void>): Promise<void> {
  if (stop) {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => void stop().finally(() => closeServer(server)));
    }
  }
  if (!server.listening) await once(server, 'listening');
  console.log(`listening on http://localhost:${(server.address() as AddressInfo).port}`);
}

/** Closes the server. Open responses have a second to finish; then the sockets that browsers open in advance are closed too. */
export function closeServer(server: Server): void {
  server.close();
  setTimeout(() => server.closeAllConnections(), 1000).unref();
}
