/*
 * Rounds of join, disconnect and resume over a run of 10 MB, while it is produced and after its end: what a client receives is equal
 * to the log from its position on, and the process does not grow. RUNS_ROUNDS sets the number of rounds; RUNS_SEED repeats a test.
 */
import { get, type IncomingMessage } from 'node:http';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { memoryRuns } from '../../lib/runs/index.ts';
import { Random, seedFrom } from '../fixtures/random.ts';
import { eventually } from '../fixtures/http.ts';
import { tick } from '../fixtures/support.ts';
import { site } from './sites.ts';

const ROUNDS = Number(process.env['RUNS_ROUNDS'] ?? 300);
const CHUNKS = 10_240;
const CHUNK_BYTES = 1024;
/** How many clients read at the same time. */
const CLIENTS = 8;
const MAX_GROWTH_BYTES = 64 * 2 ** 20;

const chunkOf = (n: number): string => `${n} `.padEnd(CHUNK_BYTES, String(n));

test(`${ROUNDS} rounds`, async () => {
  const random = new Random(seedFrom('RUNS_SEED'));
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const { port, chat, models } = await site({ store: memoryRuns(), maxBytes: 64 * 2 ** 20, batch: 5 });
  void chat.start('r', (run) => models.produce(run, {} as never));
  await eventually(() => models.calls.length === 1);
  let emitted = 0;
  /** The log grows during the first half of the rounds. */
  const produce = (until: number): void => {
    while (emitted < Math.min(until, CHUNKS)) models.last.emit(chunkOf(++emitted));
  };
  produce(100);

  /** Receives a part of the run, and returns the last id; `undefined` at the end of the run. */
  async function read(lastEventId: string): Promise<string | undefined> {
    const from = lastEventId === '' ? 0 : Number(lastEventId.split('~').at(-1));
    const wanted = random.below(2_000_000);
    let isSlow = random.next() < 0.2;
    const headers = { ...(lastEventId !== '' && { 'last-event-id': lastEventId }), connection: 'close' };
    const request = get({ port, path: '/chat/r', headers, agent: false });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve).once('error', reject);
    });
    expect(response.statusCode).toBe(200);
    let text = '';
    const timer = setTimeout(() => response.destroy(), 200); // the run may not have as much yet
    try {
      for await (const piece of response.setEncoding('utf8')) {
        text += piece as string;
        if (text.length >= wanted) break;
        if (isSlow && text.length > 100_000) {
          isSlow = false;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    } catch {
      // destroyed by the timer
    }
    clearTimeout(timer);
    response.destroy();
    const events = text.split('\n\n').slice(0, -1);
    let id: string | undefined = lastEventId;
    for (const [index, event] of events.entries()) {
      const [, found = '', n = ''] = /(?:^|\n)id: (r~[\w-]+~(\w+))\n/.exec(event) ?? [];
      if (n === 'end') {
        expect(from + index).toBe(CHUNKS);
        expect(event.endsWith('event: end\ndata: done')).toBe(true);
        return undefined;
      }
      const data = event.slice(event.lastIndexOf('data: ') + 6);
      if (Number(n) !== from + 1 + index || data !== chunkOf(Number(n))) {
        throw new Error(`After ${lastEventId}, the event ${index} is ${event.slice(0, 100)}`);
      }
      id = found;
    }
    return id;
  }

  collect();
  const heap = process.memoryUsage().heapUsed + process.memoryUsage().external;
  let rounds = 0;
  let ends = 0;
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      let id = '';
      // On a busy machine a round reads less: further rounds reach the end.
      while (rounds < ROUNDS || (ROUNDS >= 300 && ends === 0)) {
        rounds++;
        produce(Math.ceil((CHUNKS * 2 * rounds) / ROUNDS));
        if (emitted === CHUNKS && rounds > ROUNDS / 2) models.last.finish();
        const next = await read(id);
        if (next === undefined) ends++;
        id = next === undefined || random.next() < 0.05 ? '' : next;
      }
    }),
  );
  await eventually(() => chat.stats().connections === 0, 10_000);
  await tick();
  collect();
  const growth = process.memoryUsage().heapUsed + process.memoryUsage().external - heap - CHUNKS * CHUNK_BYTES;
  expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
  expect(chat.stats()).toMatchObject({ ringEntries: 0, behind: 0, connecting: 0 });
}, 600_000);
