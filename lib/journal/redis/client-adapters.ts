/*
 * Creates a RedisConnection from a duplicate of the application's client. Only this file and clients.ts depend on how node-redis
 * and ioredis behave.
 * Invariant: whatever options the application's client has, the duplicate reports every loss and returns replies in one form.
 */
import { type Arg, ConnectionLost, type Driver, RedisConnection, redisErrorFrom } from './redis-connection.ts';

/** The address of a node of a cluster. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export const CONNECT_TIMEOUT_MS = 10_000; // TCP, TLS and AUTH together
const REPLY_TIMEOUT_MS = 5_000; // a blocking read takes 2 s, plus 3 s

interface Emitter {
  on(event: string, listener: (error?: Error) => void): unknown;
}

/** The members of an ioredis client that this file uses. */
export interface IORedisDuplicate extends Emitter {
  connect(): Promise<unknown>;
  callBuffer(...args: readonly Arg[]): Promise<unknown>;
  disconnect(): void;
}

/** The members of a node-redis client that this file uses. */
export interface NodeRedisDuplicate extends Emitter {
  connect(): Promise<unknown>;
  sendCommand(args: readonly Arg[], options: object): Promise<unknown>;
  destroy(): void;
}

/** A client of one server. */
export interface SingleServerClient<Duplicate> {
  duplicate(options: object): Duplicate;
  readonly options?: { readonly keyPrefix?: unknown; readonly socket?: object };
}

// The options below disable what breaks a journal. A client that reconnects by itself hides a loss: an XADD in flight that ioredis
// sent again was stored twice. A timeout or a ping interrupts a blocking read. Other settings change the form of replies.

/** Connects with a duplicate of an ioredis client: to the node `address`, or to where the client connects. */
export function connectIORedis(
  client: SingleServerClient<IORedisDuplicate>,
  address: Address | undefined,
  signal: AbortSignal,
): Promise<RedisConnection> {
  const duplicate = client.duplicate({
    ...address,
    ...(address && { path: undefined, sentinels: null }),
    lazyConnect: true,
    retryStrategy: null,
    reconnectOnError: null,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false, // INFO may be forbidden, and the journal itself waits while the server replies -LOADING
    enableAutoPipelining: false,
    disconnectTimeout: 0, // else ioredis waits 2 s for the FIN of a frozen server, with a timer that keeps the process alive
    commandTimeout: undefined,
    socketTimeout: undefined,
    blockingTimeout: undefined,
    monitor: false,
    readOnly: false,
    role: 'master',
    keyPrefix: '',
    stringNumbers: false,
    protocol: 2, // one form of replies, whatever protocol the application uses
    replyMapping: 'legacy',
    himportFieldsets: undefined,
  });
  return connect(duplicate, ['close', 'end'], signal, {
    send: (args) => duplicate.callBuffer(...args),
    destroy: () => duplicate.disconnect(),
  });
}

const BUFFER_REPLIES = { typeMapping: { [36]: Buffer } }; // 36 = '$': bulk strings

/** Connects with a duplicate of a node-redis client: to the node `address`, or to where the client connects. */
export function connectNodeRedis(
  client: SingleServerClient<NodeRedisDuplicate>,
  address: Address | undefined,
  signal: AbortSignal,
): Promise<RedisConnection> {
  const duplicate = client.duplicate({
    ...(address && { url: undefined }),
    // The merge is shallow: without the spread, a client with `socket: { host, port }` would connect to localhost:6379.
    socket: {
      ...client.options?.socket,
      ...(address && { host: address.host, port: address.port }),
      reconnectStrategy: false,
      socketTimeout: undefined,
    },
    disableOfflineQueue: true,
    commandsQueueMaxLength: undefined,
    commandOptions: BUFFER_REPLIES,
    pingInterval: undefined,
    readonly: false,
    RESP: 2,
    clientSideCache: undefined, // these three need RESP3
    emitInvalidate: undefined,
    maintNotifications: 'disabled',
  });
  // If node-redis is destroyed while it connects, it connects all the same and never closes. So destroy it once it has a socket.
  let hasSocket = false;
  let destroyRequested = false;
  const destroy = (): void => {
    destroyRequested = true;
    if (!hasSocket) return;
    try {
      duplicate.destroy();
    } catch {
      // It throws if the socket has already been closed, which is the intended result.
    }
  };
  duplicate.on('connect', () => {
    hasSocket = true;
    if (destroyRequested) destroy();
  });
  return connect(duplicate, ['terminated', 'end'], signal, {
    send: (args) => duplicate.sendCommand(args, BUFFER_REPLIES),
    destroy,
  });
}

async function connect(
  duplicate: Emitter & { connect(): Promise<unknown> },
  closeEvents: readonly string[],
  signal: AbortSignal,
  driver: Driver,
): Promise<RedisConnection> {
  signal.throwIfAborted();
  const connection = new RedisConnection(driver, REPLY_TIMEOUT_MS);
  const onAbort = (): void => connection.destroy(signal.reason as Error);
  signal.addEventListener('abort', onAbort);
  connection.onClosed(() => signal.removeEventListener('abort', onAbort));
  let lastError: Error | undefined;
  duplicate.on('error', (error) => {
    lastError = error; // without a listener, Node throws the error
  });
  const closed = new Promise<never>((_resolve, reject) => connection.onClosed(reject));
  for (const event of closeEvents) {
    duplicate.on(event, () => connection.destroy(lastError ?? new ConnectionLost('the connection was closed')));
  }
  const timer = setTimeout(
    () => connection.destroy(new ConnectionLost(`not connected within ${CONNECT_TIMEOUT_MS} ms`)),
    CONNECT_TIMEOUT_MS,
  );
  timer.unref();
  try {
    await Promise.race([duplicate.connect(), closed]);
  } catch (error) {
    const cause = lastError ?? (error as Error); // ioredis rejects with «Connection is closed.» and emits the real reason
    connection.destroy(cause);
    throw redisErrorFrom(cause) ?? cause;
  } finally {
    clearTimeout(timer);
    closed.catch(() => {}); // from here on, the other close listeners of the connection handle a loss
  }
  return connection;
}
