/*
 * What the application hands in: which client it is, and where its nodes and keys are.
 * Knows twins and errors; the clients by their shape alone, so neither package is imported.
 * Invariant: the application's client is only duplicated: never sent a command, never reconfigured, never closed.
 */
import { describe, SseTypeError } from '../../errors.ts';
import { type Link, LinkLost } from './redis-connection.ts';
import {
  type Address,
  CONNECT_TIMEOUT,
  type IORedisTwin,
  ioredisLink,
  type NodeRedisTwin,
  nodeRedisLink,
  type Single,
} from './client-adapters.ts';

/** A client of the npm package `ioredis` (≥ 5), `Redis` or `Cluster`: only what is used of it. */
export interface IORedis {
  call: (...args: never) => unknown;
  duplicate: (...args: never) => unknown;
}

/** A client of the npm package `redis` (≥ 5), `createClient()` or `createCluster()`: only what is used of it. */
export interface NodeRedisClient {
  sendCommand: (...args: never) => unknown;
  duplicate: (...args: never) => unknown;
}

/** Makes connections like the application's. */
export interface Source {
  /** ioredis' and node-redis' `keyPrefix`: raw commands go without it on node-redis, so we put it in front ourselves on both. */
  readonly keyPrefix: string;
  /** A new connection: to the node at `at`, else to where the application's client connects. It lives until `signal` aborts. */
  connect(at: Address | undefined, signal: AbortSignal): Promise<Link>;
}

type NatMap = Readonly<Record<string, Address>> | ((address: string) => Address | null | undefined);
interface IORedisCluster {
  nodes(role: 'master'): Single<IORedisTwin>[];
  readonly options?: {
    readonly keyPrefix?: unknown;
    readonly natMap?: NatMap;
    readonly redisOptions?: { readonly keyPrefix?: unknown };
  };
}
interface NodeRedisCluster {
  readonly masters: readonly object[];
  nodeClient(node: object): Single<NodeRedisTwin> | Promise<Single<NodeRedisTwin>>;
  readonly _options?: { readonly keyPrefix?: unknown; readonly nodeAddressMap?: NatMap };
}

/**
 * Recognises a client.
 * @throws {SseTypeError} `ERR_SSE_OPTION` when it is neither.
 */
export function sourceOf(client: unknown): Source {
  const c = client as Record<string, unknown> | null | undefined;
  if (isObject(c) && typeof c.duplicate === 'function') {
    if (typeof c.call === 'function' && typeof c.nodes === 'function') return ioredisCluster(c as never);
    if (typeof c.call === 'function') return ioredis(c as never);
    if (typeof c.sendCommand === 'function' && typeof c.nodeClient === 'function') return nodeRedisCluster(c as never);
    // node-redis' Sentinel has a sendCommand too, but no connection of its own that could be followed on.
    if (typeof c.sendCommand === 'function' && typeof c.getMasterNode !== 'function') return nodeRedis(c as never);
  }
  throw new SseTypeError(
    'ERR_SSE_OPTION',
    `redisJournal: the client must be one of the npm packages redis (createClient() or createCluster()) or ioredis ` +
      `(new Redis() or new Redis.Cluster()), version 5 or later; got ${describe(client)}. Behind Sentinel, use ioredis`,
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (typeof value === 'object' || typeof value === 'function') && value !== null; // node-redis clients may be proxies
}

function ioredis(client: Single<IORedisTwin>): Source {
  return {
    keyPrefix: prefixOf(client.options?.keyPrefix),
    connect: (at, signal) => ioredisLink(client, at, signal),
  };
}

function ioredisCluster(client: IORedisCluster): Source {
  const { keyPrefix, redisOptions, natMap } = client.options ?? {};
  return {
    keyPrefix: prefixOf(keyPrefix || redisOptions?.keyPrefix),
    connect: async (at, signal) => ioredisLink(anyOf(client.nodes('master')), mapped(at, natMap), signal),
  };
}

function nodeRedis(client: Single<NodeRedisTwin>): Source {
  return {
    keyPrefix: prefixOf(client.options?.keyPrefix),
    connect: (at, signal) => nodeRedisLink(client, at, signal),
  };
}

function nodeRedisCluster(client: NodeRedisCluster): Source {
  const { keyPrefix, nodeAddressMap } = client._options ?? {};
  return {
    keyPrefix: prefixOf(keyPrefix),
    connect: async (at, signal) => {
      const node = await inTime(Promise.resolve(client.nodeClient(anyOf(client.masters))), signal);
      return nodeRedisLink(node, mapped(at, nodeAddressMap), signal);
    },
  };
}

/** A node that cannot be reached leaves a cluster's client waiting for as long as its reconnecting goes on: the next may be there. */
function inTime<T>(client: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => reject(new LinkLost(`the cluster has led to no node within ${CONNECT_TIMEOUT} ms`));
    const timer = setTimeout(giveUp, CONNECT_TIMEOUT).unref();
    signal.addEventListener('abort', giveUp, { once: true });
    void client.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
    });
  });
}

function prefixOf(prefix: unknown): string {
  if (prefix === undefined || prefix === null) return '';
  if (typeof prefix === 'string') return prefix;
  const text = prefix instanceof Uint8Array ? Buffer.from(prefix).toString() : undefined;
  if (text !== undefined && Buffer.from(text).equals(prefix as Uint8Array)) return text;
  throw new SseTypeError(
    'ERR_SSE_OPTION',
    `redisJournal: the client's keyPrefix must be text; got ${describe(prefix)}. Hand in a client with another one`,
  );
}

function anyOf<T>(nodes: readonly T[]): T {
  const node = nodes[Math.floor(Math.random() * nodes.length)];
  if (node === undefined) throw new LinkLost('the cluster client knows no node: is it connected?');
  return node;
}

/** Where the application reaches a node that calls itself `at`. */
function mapped(at: Address | undefined, map: NatMap | undefined): Address | undefined {
  if (!at || !map) return at;
  const address = `${at.host}:${at.port}`;
  return (typeof map === 'function' ? map(address) : map[address]) ?? at;
}
