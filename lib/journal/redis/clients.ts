/*
 * The client that the application passes: which kind it is, and where its nodes and keys are. The kinds are recognized by their
 * members, so this file imports neither npm package.
 * Invariant: the application's client is only duplicated. It is never sent a command, reconfigured or closed.
 */
import { invalid } from '../../validation/validate.ts';
import { ConnectionLost, type RedisConnection } from './redis-connection.ts';
import {
  type Address,
  CONNECT_TIMEOUT_MS,
  connectIORedis,
  connectNodeRedis,
  type IORedisDuplicate,
  type NodeRedisDuplicate,
  type SingleServerClient,
} from './client-adapters.ts';

/** A client of the npm package `ioredis` (≥ 5), `Redis` or `Cluster`: only the members that identify it. */
export interface IORedis {
  call: (...args: never) => unknown;
  duplicate: (...args: never) => unknown;
}

/** A client of the npm package `redis` (≥ 5), `createClient()` or `createCluster()`: only the members that identify it. */
export interface NodeRedisClient {
  sendCommand: (...args: never) => unknown;
  duplicate: (...args: never) => unknown;
}

/** Creates connections like those of the application's client. */
export interface ClientAdapter {
  /** The `keyPrefix` of the client. node-redis does not add it to raw commands, so this package adds it for both clients. */
  readonly keyPrefix: string;
  /** Connects to the node `address`, or to where the application's client connects. Closes the connection when `signal` aborts. */
  connect(address: Address | undefined, signal: AbortSignal): Promise<RedisConnection>;
}

type NatMap = Readonly<Record<string, Address>> | ((address: string) => Address | null | undefined);
interface IORedisCluster {
  nodes(role: 'master'): SingleServerClient<IORedisDuplicate>[];
  readonly options?: {
    readonly keyPrefix?: unknown;
    readonly natMap?: NatMap;
    readonly redisOptions?: { readonly keyPrefix?: unknown };
  };
}
interface NodeRedisCluster {
  readonly masters: readonly object[];
  nodeClient(node: object): SingleServerClient<NodeRedisDuplicate> | Promise<SingleServerClient<NodeRedisDuplicate>>;
  readonly _options?: { readonly keyPrefix?: unknown; readonly nodeAddressMap?: NatMap };
}

/**
 * Recognizes a client. `owner` is the function to which the application passes it; errors begin with its name.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if it is a client of neither package.
 */
export function adapterFor(client: unknown, owner = 'redisJournal'): ClientAdapter {
  const c = client as Record<string, unknown> | null | undefined;
  if (isObject(c) && typeof c.duplicate === 'function') {
    if (typeof c.call === 'function' && typeof c.nodes === 'function') return adaptIORedisCluster(c as never, owner);
    if (typeof c.call === 'function') return adaptIORedis(c as never, owner);
    if (typeof c.sendCommand === 'function' && typeof c.nodeClient === 'function')
      return adaptNodeRedisCluster(c as never, owner);
    // node-redis' Sentinel has a sendCommand too, but no connection of its own that could follow the log.
    if (typeof c.sendCommand === 'function' && typeof c.getMasterNode !== 'function')
      return adaptNodeRedis(c as never, owner);
  }
  throw invalid(
    `${owner}: client`,
    'a client of the npm package redis (createClient() or createCluster()) or ioredis (new Redis() or new Redis.Cluster()), ' +
      'version 5 or later',
    client,
    { cure: 'Behind Sentinel, use ioredis.' },
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (typeof value === 'object' || typeof value === 'function') && value !== null; // node-redis clients may be proxies
}

function adaptIORedis(client: SingleServerClient<IORedisDuplicate>, owner: string): ClientAdapter {
  return {
    keyPrefix: checkKeyPrefix(client.options?.keyPrefix, owner),
    connect: (address, signal) => connectIORedis(client, address, signal),
  };
}

function adaptIORedisCluster(client: IORedisCluster, owner: string): ClientAdapter {
  const { keyPrefix, redisOptions, natMap } = client.options ?? {};
  return {
    keyPrefix: checkKeyPrefix(keyPrefix || redisOptions?.keyPrefix, owner),
    connect: async (address, signal) =>
      connectIORedis(randomOf(client.nodes('master')), translate(address, natMap), signal),
  };
}

function adaptNodeRedis(client: SingleServerClient<NodeRedisDuplicate>, owner: string): ClientAdapter {
  return {
    keyPrefix: checkKeyPrefix(client.options?.keyPrefix, owner),
    connect: (address, signal) => connectNodeRedis(client, address, signal),
  };
}

function adaptNodeRedisCluster(client: NodeRedisCluster, owner: string): ClientAdapter {
  const { keyPrefix, nodeAddressMap } = client._options ?? {};
  return {
    keyPrefix: checkKeyPrefix(keyPrefix, owner),
    connect: async (address, signal) => {
      const node = await withTimeout(Promise.resolve(client.nodeClient(randomOf(client.masters))), signal);
      return connectNodeRedis(node, translate(address, nodeAddressMap), signal);
    },
  };
}

/** If a node is unreachable, a cluster's client waits for as long as it reconnects. The next attempt may use another node. */
function withTimeout<T>(client: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void =>
      reject(new ConnectionLost(`the cluster client returned no node within ${CONNECT_TIMEOUT_MS} ms`));
    const timer = setTimeout(giveUp, CONNECT_TIMEOUT_MS).unref();
    signal.addEventListener('abort', giveUp, { once: true });
    void client.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
    });
  });
}

/** Returns the cure for a key that is not possible, or not with the prefix of the client. */
export function keyCure({ keyPrefix }: Pick<ClientAdapter, 'keyPrefix'>, defaultKey: string): string {
  const cure = `Leave key out for ${defaultKey}.`;
  return keyPrefix === '' ? cure : `The client's keyPrefix ${JSON.stringify(keyPrefix)} is added in front. ${cure}`;
}

function checkKeyPrefix(prefix: unknown, owner: string): string {
  if (prefix === undefined || prefix === null) return '';
  if (typeof prefix === 'string') return prefix;
  const text = prefix instanceof Uint8Array ? Buffer.from(prefix).toString() : undefined;
  if (text !== undefined && Buffer.from(text).equals(prefix as Uint8Array)) return text;
  throw invalid(`${owner}: the client's keyPrefix`, 'a string or bytes of UTF-8 text', prefix, {
    cure: 'Pass a client with another keyPrefix.',
  });
}

function randomOf<T>(nodes: readonly T[]): T {
  const node = nodes[Math.floor(Math.random() * nodes.length)];
  if (node === undefined) throw new ConnectionLost('the cluster client has no nodes yet; connect it first');
  return node;
}

/** Returns the address at which the application reaches a node that announces itself as `address`. */
function translate(address: Address | undefined, map: NatMap | undefined): Address | undefined {
  if (!address || !map) return address;
  const text = `${address.host}:${address.port}`;
  return (typeof map === 'function' ? map(text) : map[text]) ?? address;
}
