/*
 * The server that a test stream connects to: an app, a router, a server or a URL, reachable while a stream uses it.
 * Invariant: what is opened here is closed, and its end awaited, when the last user has released it.
 * Invariant: a server of the caller is neither made to listen nor closed.
 */
import { createServer, type IncomingMessage, type RequestOptions, Server, type ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer, type Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { urlToHttpOptions } from 'node:url';
import { types } from 'node:util';
import { startDeadline } from './waiter.ts';

/** Anything that answers requests: an Express app, a bare router, a plain listener, a server (listening or not), a URL. */
export type ConnectTarget = ((req: never, res: never, next: never) => unknown) | Server | HttpsServer | string;

type Handler = (req: IncomingMessage, res: ServerResponse, next?: (error?: unknown) => void) => unknown;

/** How long the server may take to close its end of a connection that the client has closed, before it is destroyed. */
const SERVER_CLOSE_TIMEOUT_MS = 500;

/** One target, shared by a stream and the streams that it reconnects as. */
export class TargetServer {
  readonly #url: string | undefined;
  readonly #server: Server | HttpsServer | undefined;
  /** The server's ends of the connections, by the ports of client and server. */
  readonly #sockets = new Map<string, Socket>();
  readonly #onConnection = (socket: Socket): void => {
    const ports = `${socket.remotePort}:${socket.localPort}`;
    this.#sockets.set(ports, socket);
    if (this.#listener !== undefined) socket.unref(); // like the client's end
    socket.once('close', () => this.#sockets.delete(ports));
  };
  #listener: TcpServer | undefined;
  #ready: Promise<void> | undefined;
  #users = 0;

  constructor(target: ConnectTarget) {
    if (typeof target === 'string') this.#url = target;
    else if (typeof target === 'function') this.#server = createServer(requestListenerOf(target as Handler));
    else this.#server = target;
  }

  /** Makes the target reachable and returns where. Each `acquire` that succeeds needs one `release`. */
  async acquire(path: string | undefined): Promise<RequestOptions> {
    const server = this.#server;
    if (server === undefined) return urlToHttpOptions(new URL(path ?? '', this.#url));
    this.#users++;
    try {
      await (this.#ready ??= this.#start(server));
    } catch (error) {
      this.#users--;
      this.#ready = undefined;
      throw error;
    }
    const location = locationOf((this.#listener ?? server).address());
    const tls = server instanceof TlsServer ? { protocol: 'https:', rejectUnauthorized: false } : {};
    return { ...location, ...tls, path: path?.startsWith('/') ? path : `/${path ?? ''}` };
  }

  /**
   * Waits until the server's end of the connection is closed too. The last release closes the listener.
   *
   * @param ports - the client's port and the server's: one alone is not unique, because the kernel reuses a client's port
   * for another destination
   */
  async release(ports: string | undefined): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    await this.#waitForClose(this.#sockets.get(ports ?? ''));
    if (--this.#users > 0) return;
    server.off('connection', this.#onConnection);
    const listener = this.#listener;
    this.#listener = this.#ready = undefined;
    if (listener !== undefined) await new Promise<void>((resolve) => listener.close(() => resolve()));
  }

  async #start(server: Server | HttpsServer): Promise<void> {
    if (!server.listening) this.#listener = await listenFor(server);
    server.on('connection', this.#onConnection);
  }

  #waitForClose(socket: Socket | undefined): Promise<void> {
    if (socket === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const cancelDeadline = startDeadline(SERVER_CLOSE_TIMEOUT_MS, () => {
        if (this.#listener === undefined) return resolve();
        socket.destroy(); // accepted by our listener, which could not close while the socket is open
      });
      socket.once('close', () => {
        cancelDeadline();
        resolve();
      });
    });
  }
}

/**
 * Accepts connections and hands them to a server that does not listen, which node:http documents for its 'connection'
 * event. So the caller's server keeps its state, and of several streams at once none has to close it.
 */
function listenFor(server: Server | HttpsServer): Promise<TcpServer> {
  const allowHalfOpen = !(server instanceof TlsServer);
  const listener = createTcpServer({ allowHalfOpen, noDelay: true }, (socket) => server.emit('connection', socket));
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(0, '127.0.0.1', () => resolve(listener.off('error', reject).unref()));
  });
}

function locationOf(address: AddressInfo | string | null): RequestOptions {
  if (address === null) throw new Error('The server must be open; received one that has been closed.');
  if (typeof address === 'string') return { socketPath: address };
  const loopback: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
  return { hostname: loopback[address.address] ?? address.address, port: address.port };
}

/**
 * An app answers every request itself. A bare router calls `next` for a request that it does not handle and for its errors,
 * so the listener answers those.
 */
function requestListenerOf(handler: Handler): Handler {
  if ('listen' in handler) return (req, res) => handler(req, res);
  return async (req, res) => {
    const next = (error?: unknown): void => {
      if (res.headersSent) return void res.destroy();
      const { status = 500 } = (error ?? { status: 404 }) as { status?: number };
      res.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' });
      res.end(
        types.isNativeError(error) ? (error.stack ?? error.message) : `No handler answers ${req.method} ${req.url}`,
      );
    };
    try {
      await handler(req, res, next);
    } catch (error) {
      next(error);
    }
  };
}
