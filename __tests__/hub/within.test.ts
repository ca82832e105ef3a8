/*
 * Broadcasts within a transaction, as far as the router does them: a journal without transactions, and what a journal is given.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { type Journal, memoryJournal, type NewEntry, sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';
import { redisJournal } from '../../lib/journal/redis/index.ts';
import { codeOf, later } from '../fixtures/support.ts';

function routerOn(options: SseOptions): SseRouter {
  const events = sse(() => {}, options);
  later(() => events.close());
  return events;
}

test.each<[string, () => SseOptions]>([
  ['no history', () => ({ history: false })],
  ['the log in memory', () => ({})],
  [
    'LMDB',
    () => {
      const path = mkdtempSync(join(tmpdir(), 'sse-router-within-'));
      later(() => rmSync(path, { recursive: true, force: true }));
      return { history: lmdbJournal(path) };
    },
  ],
  [
    'Redis', // which need not be there
    () => ({ history: redisJournal(new Redis(1, '127.0.0.1', { lazyConnect: true })), onError: () => {} }),
  ],
])('%s has no transactions, and the error names the journal that has', (_name, options) => {
  const events = routerOn(options());
  const within = (): unknown => events.within({ query: async () => {} });
  expect(codeOf(within)).toBe('ERR_SSE_OPTION');
  expect(within).toThrow(/postgresJournal/);
});

describe('a journal with transactions', () => {
  const appended: [unknown, NewEntry][] = [];
  beforeEach(() => void appended.splice(0));

  function journal(): Journal {
    const inner = memoryJournal();
    return Object.assign(Object.create(inner) as Journal, {
      open: () => inner.open(),
      append: (entry: NewEntry) => inner.append(entry),
      window: (max: number) => inner.window(max),
      read: (after: string, limit: number) => inner.read(after, limit),
      follow: inner.follow.bind(inner),
      compare: inner.compare.bind(inner),
      isId: inner.isId.bind(inner),
      close: () => inner.close(),
      within: (transaction: unknown) => ({
        append: async (entry: NewEntry) => void appended.push([transaction, entry]),
      }),
    });
  }

  test('is given the transaction and the encoded entry; the broadcast counts and resolves with nothing', async () => {
    const events = routerOn({ history: journal() });
    const client = { query: async () => {} };
    const joined = events.within(client);
    expect(
      await joined.broadcast({ event: 'order', data: { id: 1 } }, { to: 'a', except: 'b', key: 'k' }),
    ).toBeUndefined();
    const [[transaction, entry]] = appended as [[unknown, NewEntry]];
    expect(transaction).toBe(client);
    expect({ ...entry, body: Buffer.from(entry.body).toString() }).toEqual({
      to: ['a'],
      except: ['b'],
      key: 'k',
      body: 'event: order\ndata: {"id":1}\n\n',
    });
    expect(events.stats().broadcasts).toBe(1);
  });

  test.each<[string, unknown, unknown]>([
    ['ERR_SSE_EVENT', { event: 'a\nb', data: 1 }, {}],
    ['ERR_SSE_CHANNEL', 'x', { to: 7 }],
    ['ERR_SSE_ID', { id: '7', data: 'x' }, {}],
    ['ERR_SSE_OPTION', 'x', { too: 'a' }],
    ['ERR_SSE_OPTION', 'x', { key: '' }],
  ])('what cannot be broadcast is rejected with %s, and nothing is stored', async (code, message, options) => {
    const joined = routerOn({ history: journal() }).within({ query: async () => {} });
    await expect(joined.broadcast(message as never, options as never)).rejects.toMatchObject({ code });
    expect(appended).toEqual([]);
  });

  test('what is changed after the call changes nothing', async () => {
    const joined = routerOn({ history: journal() }).within({ query: async () => {} });
    const message = { data: [1] };
    const sent = joined.broadcast(message);
    message.data.push(2);
    await sent;
    expect(Buffer.from(appended[0]![1].body).toString()).toBe('data: [1]\n\n');
  });
});
