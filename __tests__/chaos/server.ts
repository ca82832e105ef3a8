/*
 * One of several servers on one log. fleet.ts runs it as a process of its own, and kills it.
 * It ends when its parent ends.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { type Journal, sse } from '../../lib/index.ts';
import { clock, dataOf, type Logged } from './logged.ts';

/** The settings of a server, as JSON in argv[2]. */
export interface Spec {
  readonly engine: 'node-redis' | 'ioredis' | 'lmdb' | 'postgres';
  /** The URL of Redis or Postgres, or a path. */
  readonly at: string;
  /** The prefix of its events. No other server uses it, and no earlier process of this server. */
  readonly name: string;
  /** 0 for any free port. */
  readonly port: number;
  /** Broadcasts per second. A third of them is for one room each, in turn. */
  readonly rate: number;
  /** The number of rooms; by default 3. */
  readonly rooms?: number;
  /** In milliseconds; by default 400. */
  readonly heartbeat?: number;
}

/** Ends the connections of a room. */
export interface DisconnectCommand {
  readonly disconnect: string;
  readonly end?: boolean;
  /** How many broadcasts to the room are appended immediately before the disconnect, and how many immediately after it. */
  readonly around?: number;
}

export type ToServer = 'publish' | 'stop' | 'last' | 'dump' | DisconnectCommand;
export type FromServer =
  | { readonly listening: number }
  | { readonly acknowledged: readonly [id: string, data: string] }
  | { readonly refused: string }
  | { readonly stopped: true }
  | { readonly disconnected: string; /** In milliseconds of `clock()`. */ readonly at: number }
  | { readonly last: string }
  | { readonly dump: readonly Logged[] };

const spec = JSON.parse(process.argv[2]!) as Spec;
const send = (message: FromServer): void => void process.send?.(message);
process.on('disconnect', () => process.exit());

async function journalOf({ engine, at }: Spec): Promise<Journal> {
  if (engine === 'lmdb') return (await import('../../lib/journal/lmdb/index.ts')).lmdbJournal(at);
  if (engine === 'postgres') {
    const { default: pg } = await import('pg');
    const { postgresJournal } = await import('../../lib/journal/postgres/index.ts');
    return postgresJournal(new pg.Pool({ connectionString: at }), { wait: 10_000 });
  }
  const { redisJournal } = await import('../../lib/journal/redis/index.ts');
  if (engine === 'ioredis') {
    const { Redis } = await import('ioredis');
    const client = new Redis(at, { lazyConnect: true });
    client.on('error', () => {});
    return redisJournal(client);
  }
  const { createClient } = await import('redis');
  const client = createClient({ url: at });
  client.on('error', () => {});
  return redisJournal(client);
}

/** Limits the first window, so that a fresh server must replay from the log for a client that was away for a few seconds. */
function narrow(journal: Journal): Journal {
  return {
    open: () => journal.open(),
    append: (entry) => journal.append(entry),
    window: (max) => journal.window(Math.min(max, 40)),
    read: (after, limit) => journal.read(after, limit),
    follow: (after, follower) => journal.follow(after, follower),
    compare: (a, b) => journal.compare(a, b),
    isId: (text) => journal.isId(text),
    close: () => journal.close(),
  };
}

const journal = await journalOf(spec);
const events = sse(
  (conn, req, res) => {
    res.set('X-Position', events.position); // where the connection was admitted
    conn.join(req.query['room'] as string);
  },
  { history: narrow(journal), heartbeat: spec.heartbeat ?? 400, retry: 1000 },
);

const pending = new Set<Promise<unknown>>();
let number = 0;
let timer: NodeJS.Timeout | undefined;

function publish(): void {
  broadcast((number + 1) % 3 === 0 ? { to: `room${Math.floor((number + 1) / 3) % (spec.rooms ?? 3)}` } : {});
}

function broadcast(to: { to?: string }): void {
  const data = `${spec.name}.${++number}`;
  settle(events.broadcast({ data }, to).then((id) => send({ acknowledged: [id, data] })));
}

function disconnect({ disconnect: to, end, around = 0 }: DisconnectCommand): void {
  for (let n = 0; n < around; n++) broadcast({ to });
  settle(events.disconnect({ to, end }).then((disconnected) => send({ disconnected, at: clock() })));
  for (let n = 0; n < around; n++) broadcast({ to });
}

/** Reports a failure. The command `stop` waits for the promise. */
function settle(work: Promise<void>): void {
  const one = work.catch((error: Error) => send({ refused: error.message })).finally(() => pending.delete(one));
  pending.add(one);
}

/** Broadcasts a last event, with retries, because the engine may have just restarted. */
async function last(): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      return await events.broadcast({ data: `${spec.name}.${++number}` });
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}

async function execute(command: ToServer): Promise<void> {
  if (typeof command === 'object') disconnect(command);
  if (command === 'publish') timer = setInterval(publish, 1000 / spec.rate);
  if (command === 'last') send({ last: await last() });
  if (command === 'stop') {
    clearInterval(timer);
    await Promise.all(pending);
    send({ stopped: true });
  }
  if (command === 'dump') {
    const { floor, entries } = await journal.window(10_000_000);
    const log = entries.map(({ id, body, to }): Logged => {
      return [id, dataOf(Buffer.from(body).toString()), to ? JSON.stringify(to) : null];
    });
    send({ dump: [[floor, '', '[]'], ...log] }); // the position where the first clients started
  }
}
process.on('message', (command: ToServer) => void execute(command));

const server = createServer(express().use('/events', events));
server.listen(spec.port, '127.0.0.1', () => send({ listening: (server.address() as AddressInfo).port }));
