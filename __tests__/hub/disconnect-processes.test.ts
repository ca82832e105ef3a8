/*
 * `disconnect()` in three processes on one log: every process ends the streams of the user, and writes none of them a later entry.
 *
 *   DISCONNECT_STREAMS=5000 npx jest __tests__/hub/disconnect-processes    with more streams, and with a bound for the time
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fleet } from '../chaos/fleet.ts';
import { clock, DISCONNECT, type Logged } from '../chaos/logged.ts';
import { StreamParser } from '../chaos/stream-parser.ts';
import { startRedis } from '../fixtures/redis-server.ts';

const isLong = process.env['DISCONNECT_STREAMS'] !== undefined;
const STREAMS = Number(process.env['DISCONNECT_STREAMS'] ?? 300);
const STREAMS_PER_ROOM = 15;
const ROOMS = Math.ceil(STREAMS / STREAMS_PER_ROOM);
/** Broadcasts per second of each process. Two thirds of them are for every stream. */
const RATE = isLong ? 2 : 20;
/** The bound of the long form, from the moment at which `disconnect()` has resolved to the last byte of the last stream. */
const MAX_MS = 50;

jest.setTimeout(isLong ? 180_000 : 30_000);

/** One stream of a client that does not reconnect. */
class Stream {
  readonly room: string;
  readonly server: number;
  /** The position where it began. */
  begin = '';
  /** The ids of its events. */
  readonly ids: string[] = [];
  lastByteAt = 0;
  hasEnded = false;
  hasEndEvent = false;
  readonly #socket: Socket;

  constructor(port: number, server: number, room: string) {
    this.room = room;
    this.server = server;
    const parser = new StreamParser();
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.setEncoding('latin1').setNoDelay();
    this.#socket.write(`GET /events?room=${room} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => (this.hasEnded = true));
    this.#socket.on('data', (text: string) => {
      this.lastByteAt = clock();
      for (const { event, id = '' } of parser.feed(text)) {
        if (event === 'message') this.ids.push(id);
        else if (event === 'end') this.hasEndEvent = true;
        if (this.begin === '') this.begin = id;
      }
    });
  }

  disconnect(): void {
    this.#socket.destroy();
  }

  /** Returns the ids that a stream in this room has to receive: those after its start, up to the first disconnect after it. */
  expected(log: readonly Logged[]): string[] {
    const all = log.slice(log.findIndex(([id]) => id === this.begin) + 1);
    const mine = all.filter(([, , to]) => to === null || (JSON.parse(to) as string[]).includes(this.room));
    const end = mine.findIndex(([, data]) => data === DISCONNECT);
    return (end === -1 ? mine : mine.slice(0, end)).map(([id]) => id);
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries === 2000) throw new Error('The condition did not hold within 10 s.');
    await sleep(5);
  }
}

describe.each(['lmdb', 'node-redis'] as const)('three processes with %s', (engine) => {
  let fleet: Fleet;
  let streams: Stream[];
  let release: () => unknown;

  beforeAll(async () => {
    let at: string;
    if (engine === 'lmdb') {
      at = mkdtempSync(join(tmpdir(), 'sse-router-disconnect-'));
      release = () => rmSync(at, { recursive: true, force: true });
    } else {
      const redis = await startRedis();
      at = redis.url;
      release = () => redis.stop();
    }
    fleet = new Fleet([0, 1, 2].map(() => ({ engine, at, rate: RATE, rooms: ROOMS, heartbeat: 15_000 })));
    await fleet.start();
  });
  beforeEach(async () => {
    streams = Array.from({ length: STREAMS }, (_, n) => {
      const server = n % 3;
      return new Stream(fleet.servers[server]!.port, server, `room${Math.floor(n / STREAMS_PER_ROOM)}`);
    });
    await until(() => streams.every(({ begin }) => begin !== ''));
  });
  afterEach(() => {
    for (const stream of streams) stream.disconnect();
  });
  afterAll(async () => {
    await fleet.stop();
    await release();
  });

  /** Compares every stream with the log. */
  async function compare(ended: readonly Stream[]): Promise<void> {
    const last = await fleet.broadcastLast();
    const open = streams.filter((stream) => !ended.includes(stream));
    await until(() => open.every(({ ids }) => ids.at(-1) === last));
    const log = await fleet.readLog();
    for (const stream of streams) expect(stream.ids).toEqual(stream.expected(log));
    for (const stream of ended) expect(stream.ids).not.toContain(last);
    expect(open.filter(({ hasEnded }) => hasEnded)).toEqual([]);
    expect([fleet.crashes, fleet.refused]).toEqual([[], []]);
  }

  test('the streams of a user end in all of them, in order with the broadcasts, and no other stream ends', async () => {
    fleet.publish();
    await sleep(200);
    const times: number[] = [];
    const ended: Stream[] = [];
    for (const [n, server] of fleet.servers.entries()) {
      const room = `room${n}`;
      const ofUser = streams.filter((stream) => stream.room === room);
      const { at } = await server.disconnect(room, { end: n === 2, around: 20 });
      await until(() => ofUser.every(({ hasEnded }) => hasEnded));
      times.push(Math.max(...ofUser.map(({ lastByteAt }) => lastByteAt)) - at);
      expect(ofUser.map(({ hasEndEvent }) => hasEndEvent)).toEqual(ofUser.map(() => n === 2));
      ended.push(...ofUser);
    }
    await sleep(200);
    await fleet.stopPublishing();
    await compare(ended);
    const text = times.map((ms) => `${ms.toFixed(1)} ms`).join(', ');
    process.stdout.write(`disconnect, ${engine}: ${STREAMS} streams, last byte after the resolution: ${text}\n`);
    if (isLong) expect(Math.max(...times)).toBeLessThan(MAX_MS);
  });

  test('a process that was stopped for a second ends the streams without a later entry', async () => {
    const [publisher, stopped] = fleet.servers;
    const ofUser = streams.filter(({ room }) => room === 'room0');
    const there = ofUser.filter(({ server }) => server === 1);
    stopped!.signal('SIGSTOP');
    try {
      await publisher!.disconnect('room0', { around: 20 });
      await until(() => ofUser.every((stream) => stream.hasEnded || there.includes(stream)));
      await sleep(1000);
      expect(there.filter(({ hasEnded }) => hasEnded)).toEqual([]);
    } finally {
      stopped!.signal('SIGCONT');
    }
    const continuedAt = clock();
    await until(() => there.every(({ hasEnded }) => hasEnded));
    const ms = Math.max(...there.map(({ lastByteAt }) => lastByteAt)) - continuedAt;
    process.stdout.write(`disconnect, ${engine}: last byte ${ms.toFixed(1)} ms after SIGCONT\n`);
    await compare(ofUser);
  });
});
