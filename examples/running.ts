/*
 * What every example needs besides its own code: it prints its address, and it stops on SIGTERM and SIGINT.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { relative } from 'node:path';

/** Prints the address once the server listens. On SIGTERM and SIGINT, calls `stop` and then closes the server. */
export async function running(server: Server, stop?: () => Promise<void>): Promise<void> {
  if (stop) {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => void stop().finally(() => closeServer(server)));
    }
  }
  await listening(server);
  console.log(`listening on http://localhost:${(server.address() as AddressInfo).port}`);
}

/** Waits until the server listens. If another process listens on its port, prints the cure and ends this one. */
export async function listening(server: Server, command = `npx tsx ${relative('', process.argv[1]!)}`): Promise<void> {
  if (server.listening) return;
  try {
    await once(server, 'listening');
  } catch (error) {
    const { code, port = 0 } = error as NodeJS.ErrnoException & { readonly port?: number };
    if (code !== 'EADDRINUSE') throw error;
    console.error(`Port ${port} is in use. Choose another: PORT=${port + 1000} ${command}`);
    process.exit(1);
  }
}

/** Closes the server. Open responses have a second to finish; then the sockets that browsers open in advance are closed too. */
export function closeServer(server: Server): void {
  server.close();
  setTimeout(() => server.closeAllConnections(), 1000).unref();
}
