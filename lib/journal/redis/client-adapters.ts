/*
 * A duplicate of the application's client → one connection of ours that never reconnects by itself.
 * Knows links; with client.ts the only room that knows what node-redis and ioredis are like.
 * Invariant: whatever the application chose for its own client, ours dies visibly and answers in one shape.
 */
import { type Arg, type Driver, Link, LinkLost, refusalOf } from './redis-connection.ts';

/** Where a cluster's node is. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export const CONNECT_TIMEOUT = 10_000; // TCP, TLS and AUTH together
const PATIENCE = 5_000; // a blocking read of 2 s and 3 s more

interface Emitter {
  on(event: string, listener: (error?: Error) => void): unknown;
}

/** ioredis, as far as it is used. */
export interface IORedisTwin extends Emitter {
  connect(): Promise<unknown>;
  callBuffer(...args: readonly Arg[]): Promise<unknown>;
  disconnect(): void;
}

/** node-redis, as far as it is used. */
export interface NodeRedisTwin extends Emitter {
  connect(): Promise<unknown>;
  sendCommand(args: readonly Arg[], options: object): Promise<unknown>;
  destroy(): void;
}

/** A client of one server. */
export interface Single<Twin> {
  duplicate(options: object): Twin;
  readonly options?: { readonly keyPrefix?: unknown; readonly socket?: object };
}

// The options below undo what hurts here: a reconnect of the client's own hides a loss (an in-flight XADD that ioredis sent again was
// stored twice), a time-out or a ping breaks into a blocking read, and replies would have as many shapes as there are settings.

/** Connects like an ioredis client, to `at` if that is given. */
export function ioredisLink(client: Single<IORedisTwin>, at: Address | undefined, signal: AbortSignal): Promise<Link> {
  const twin = client.duplicate({
    ...at,
    ...(at && { path: undefined, sentinels: null }),
    lazyConnect: true,
    retryStrategy: null,
    reconnectOnError: null,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false, // INFO may be forbidden, and -LOADING is ours to wait out
    enableAutoPipelining: false,
    disconnectTimeout: 0, // else 2 s for a frozen server's FIN, on a timer that keeps the process alive
    commandTimeout: undefined,
    socketTimeout: undefined,
    blockingTimeout: undefined,
    monitor: false,
    readOnly: false,
    role: 'master',
    keyPrefix: '',
    stringNumbers: false,
    protocol: 2, // one shape of replies, whatever the application chose
    replyMapping: 'legacy',
    himportFieldsets: undefined,
  });
  return connected(twin, ['close', 'end'], signal, {
    send: (args) => twin.callBuffer(...args),
    destroy: () => twin.disconnect(),
  });
}

const BUFFERS = { typeMapping: { [36]: Buffer } }; // 36 = '$': bulk strings

/** Connects like a node-redis client, to `at` if that is given. */
export function nodeRedisLink(
  client: Single<NodeRedisTwin>,
  at: Address | undefined,
  signal: AbortSignal,
): Promise<Link> {
  const twin = client.duplicate({
    ...(at && { url: undefined }),
    // The merge is shallow: without the spread a client made from `socket: { host, port }` would go to localhost:6379.
    socket: {
      ...client.options?.socket,
      ...(at && { host: at.host, port: at.port }),
      reconnectStrategy: false,
      socketTimeout: undefined,
    },
    disableOfflineQueue: true,
    commandsQueueMaxLength: undefined,
    commandOptions: BUFFERS,
    pingInterval: undefined,
    readonly: false,
    RESP: 2,
    clientSideCache: undefined, // these three need RESP3
    emitInvalidate: undefined,
    maintNotifications: 'disabled',
  });
  // Destroyed while it dials, node-redis would connect all the same and never let go: so it is destroyed once it has a socket.
  let hasSocket = false;
  let unwanted = false;
  const destroy = (): void => {
    unwanted = true;
    if (!hasSocket) return;
    try {
      twin.destroy();
    } catch {
      // It throws when the socket has already been closed, which is what was wanted.
    }
  };
  twin.on('connect', () => {
    hasSocket = true;
    if (unwanted) destroy();
  });
  return connected(twin, ['terminated', 'end'], signal, { send: (args) => twin.sendCommand(args, BUFFERS), destroy });
}

async function connected(
  twin: Emitter & { connect(): Promise<unknown> },
  ends: readonly string[],
  signal: AbortSignal,
  driver: Driver,
): Promise<Link> {
  signal.throwIfAborted();
  const link = new Link(driver, PATIENCE);
  const over = (): void => link.destroy(signal.reason as Error);
  signal.addEventListener('abort', over);
  link.onGone(() => signal.removeEventListener('abort', over));
  let cause: Error | undefined;
  twin.on('error', (error) => {
    cause = error; // without a listener Node throws it
  });
  const gone = new Promise<never>((_resolve, reject) => link.onGone(reject));
  for (const end of ends) twin.on(end, () => link.destroy(cause ?? new LinkLost('the connection was closed')));
  const timer = setTimeout(
    () => link.destroy(new LinkLost(`not connected within ${CONNECT_TIMEOUT} ms`)),
    CONNECT_TIMEOUT,
  );
  timer.unref();
  try {
    await Promise.race([twin.connect(), gone]);
  } catch (error) {
    const why = cause ?? (error as Error); // ioredis rejects with «Connection is closed.» and emits the reason
    link.destroy(why);
    throw refusalOf(why) ?? why;
  } finally {
    clearTimeout(timer);
    gone.catch(() => {}); // heard by the link's own mourners from here on
  }
  return link;
}
