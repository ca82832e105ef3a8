/*
 * One of several servers on one log, to be killed: run by fleet.ts as a process of its own.
 * Knows the package, and its parent by messages.
 * Invariant: it lives no longer than its parent does.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { type Journal, sse } from '../../lib/index.ts';

/** What a server is told at its start, as JSON in argv[2]. */
export interface Spec {
  readonly engine: 'node-redis' | 'ioredis' | 'lmdb' | 'postgres';
  /** The URL of Redis or Postgres, or a path. */
  readonly at: string;
  /** What its events are called, which no other server and no earlier life of this one uses. */
  readonly name: string;
  /** 0: any. */
  readonly port: number;
  /** Broadcasts a second. */
  readonly rate: number;
}

export type ToServer = 'publish' | 'stop' | 'last' | 'dump';
export type Logged = readonly [id: string, data: string, to: string | null];
export type FromServer =
  | { readonly listening: number }
  | { readonly acknowledged: readonly [id: string, data: string] }
  | { readonly refused: string }
  | { readonly stopped: true }
  | { readonly last: string }
  | { readonly dump: readonly Logged[] };

const spec = JSON.parse(process.argv[2]!) as Spec;
const say = (message: FromServer): void => void process.send?.(message);
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

/** The same log behind a small first window: after a start, who was away for a few seconds must be served by the scan. */
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
const events = sse((conn, req) => conn.join(req.query['room'] as string), {
  history: narrow(journal),
  heartbeat: 400,
  retry: 1000,
});

const pending = new Set<Promise<unknown>>();
let number = 0;
let timer: NodeJS.Timeout | undefined;

function publish(): void {
  const data = `${spec.name}.${++number}`;
  const to = number % 3 === 0 ? { to: `room${Math.floor(number / 3) % 3}` } : {};
  const one = events
    .broadcast({ data }, to)
    .then(
      (id) => say({ acknowledged: [id, data] }),
      (error: Error) => say({ refused: error.message }),
    )
    .finally(() => pending.delete(one));
  pending.add(one);
}

/** Until it is in the log: engines may just have come back. */
async function last(): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      return await events.broadcast({ data: `${spec.name}.${++number}` });
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}

async function obey(command: ToServer): Promise<void> {
  if (command === 'publish') timer = setInterval(publish, 1000 / spec.rate);
  if (command === 'last') say({ last: await last() });
  if (command === 'stop') {
    clearInterval(timer);
    await Promise.all(pending);
    say({ stopped: true });
  }
  if (command === 'dump') {
    const { floor, entries } = await journal.window(10_000_000);
    const data = (body: Uint8Array) => /^data: (.*)$/m.exec(Buffer.from(body).toString())?.[1] ?? '';
    const log = entries.map(({ id, body, to }): Logged => [id, data(body), to ? JSON.stringify(to) : null]);
    say({ dump: [[floor, '', '[]'], ...log] }); // where the first clients began
  }
}
process.on('message', (command: ToServer) => void obey(command));

const server = createServer(express().use('/events', events));
server.listen(spec.port, '127.0.0.1', () => say({ listening: (server.address() as AddressInfo).port }));
