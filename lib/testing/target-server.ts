/*
 * Where a stream leads to: an app, a router, a server or a URL, made reachable for as long as somebody is connected.
 * Knows node:net, node:http and node:tls; neither Express nor the core.
 * Invariant: what was opened here is closed, and waited for, when the last one has left; a caller's own server is neither made to listen nor closed.
 */
import { createServer, type IncomingMessage, type RequestOptions, Server, type ServerResponse } from 'node:http';
import { createServer as createFront, type AddressInfo, type Server as Front, type Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { types } from 'node:util';
import type { Server as SecureServer } from 'node:https';
import { deadline } from './waiter.ts';

/** Anything that answers requests: an Express app, a bare router, a plain listener, a server (listening or not), a URL. */
export type ConnectTarget = ((req: never, res: never, next: never) => unknown) | Server | SecureServer | string;

type Listener = (req: IncomingMessage, res: ServerResponse, next?: (error?: unknown) => void) => unknown;

/** How long the server may take to notice that its client has gone, before its end of the connection is cut as well. */
const GRACE = 500;

/** One place to connect to, shared by a stream and those that it reconnects as. */
export class Venue {
  readonly #url: string | undefined;
  readonly #server: Server | SecureServer | undefined;
  readonly #guests = new Map<string, Socket>();
  readonly #welcome = (socket: Socket): void => {
    const wire = `${socket.remotePort}:${socket.localPort}`;
    this.#guests.set(wire, socket);
    if (this.#front !== undefined) socket.unref(); // as the client's end is
    socket.once('close', () => this.#guests.delete(wire));
  };
  #front: Front | undefined;
  #opened: Promise<void> | undefined;
  #visitors = 0;

  constructor(target: ConnectTarget) {
    if (typeof target === 'string') this.#url = target;
    else if (typeof target === 'function') this.#server = createServer(serve(target as Listener));
    else this.#server = target;
  }

  /** Makes the place reachable, and says how. Each `enter` is owed one `leave`, unless it failed. */
  async enter(path: string | undefined): Promise<RequestOptions> {
    const server = this.#server;
    if (server === undefined) return fromUrl(new URL(path ?? '', this.#url));
    this.#visitors++;
    try {
      await (this.#opened ??= this.#open(server));
    } catch (error) {
      this.#visitors--;
      this.#opened = undefined;
      throw error;
    }
    const where = fromAddress((this.#front ?? server).address());
    const secure = server instanceof TlsServer ? { protocol: 'https:', rejectUnauthorized: false } : {};
    return { ...where, ...secure, path: path?.startsWith('/') ? path : `/${path ?? ''}` };
  }

  /**
   * Waits until the server, too, is rid of the connection; the last to leave puts out the light.
   *
   * @param wire - the ports of the client and of the server: one alone is not unique, since the kernel gives a client's
   * port out again for another destination
   */
  async leave(wire: string | undefined): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    await this.#farewell(this.#guests.get(wire ?? ''));
    if (--this.#visitors > 0) return;
    server.off('connection', this.#welcome);
    const front = this.#front;
    this.#front = this.#opened = undefined;
    if (front !== undefined) await new Promise<void>((resolve) => front.close(() => resolve()));
  }

  async #open(server: Server | SecureServer): Promise<void> {
    if (!server.listening) this.#front = await openFront(server);
    server.on('connection', this.#welcome);
  }

  #farewell(socket: Socket | undefined): Promise<void> {
    if (socket === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = deadline(GRACE, () => {
        if (this.#front === undefined) return resolve();
        socket.destroy(); // ours, and it would keep the front from closing
      });
      socket.once('close', () => {
        cancel();
        resolve();
      });
    });
  }
}

/**
 * A server that does not listen is given its connections by hand, which node:http documents for its 'connection' event:
 * so the caller's server stays as it is, and several streams at once do not quarrel about who closes it.
 */
function openFront(server: Server | SecureServer): Promise<Front> {
  const halfOpen = !(server instanceof TlsServer);
  const front = createFront({ allowHalfOpen: halfOpen, noDelay: true }, (socket) => server.emit('connection', socket));
  return new Promise((resolve, reject) => {
    front.once('error', reject);
    front.listen(0, '127.0.0.1', () => resolve(front.off('error', reject).unref()));
  });
}

function fromUrl(url: URL): RequestOptions {
  const { protocol, hostname, port, pathname, search, username, password } = url;
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const auth = username === '' ? {} : { auth: `${decodeURIComponent(username)}:${decodeURIComponent(password)}` };
  return { protocol, host, path: `${pathname}${search}`, ...(port === '' ? {} : { port }), ...auth };
}

function fromAddress(address: AddressInfo | string | null): RequestOptions {
  if (address === null) throw new Error('The server has been closed.');
  if (typeof address === 'string') return { socketPath: address };
  const anywhere: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
  return { host: anywhere[address.address] ?? address.address, port: address.port };
}

/** An app answers everything itself; a bare router passes on what it does not, and its errors, so that is answered here. */
function serve(target: Listener): Listener {
  if ('listen' in target) return (req, res) => target(req, res);
  return async (req, res) => {
    const next = (error?: unknown): void => {
      if (res.headersSent) return void res.destroy();
      const { status = 500 } = (error ?? { status: 404 }) as { status?: number };
      res.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' });
      res.end(
        types.isNativeError(error) ? (error.stack ?? error.message) : `Nothing here answers ${req.method} ${req.url}`,
      );
    };
    try {
      await target(req, res, next);
    } catch (error) {
      next(error);
    }
  };
}
