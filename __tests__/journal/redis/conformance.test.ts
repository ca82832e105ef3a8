/*
 * The conformance suite on a real Redis, with both clients.
 */
import { randomUUID } from 'node:crypto';
import { conformance } from '../../../lib/conformance/index.ts';
import type { Journal } from '../../../lib/journal/journal.ts';
import { redisJournal } from '../../../lib/journal/redis/index.ts';
import { kinds } from '../../fixtures/redis-clients.ts';
import { someRedis } from '../../fixtures/redis-server.ts';

let redis: Awaited<ReturnType<typeof someRedis>>;
beforeAll(async () => {
  redis = await someRedis();
}, 120_000);
afterAll(() => redis.stop());

describe.each(kinds)('redisJournal over $name', (kind) => {
  const cases = conformance(async () => {
    const app = await kind.make(redis.url);
    const key = `{test-${randomUUID()}}`;
    return {
      journal: oneEntryPerMillisecond(redisJournal(app.client, { key })),
      reopen: () => redisJournal(app.client, { key }),
      async trim(id) {
        const [ms, seq] = id.split('-');
        await app.command('XTRIM', key, 'MINID', `${ms}-${BigInt(seq!) + 1n}`);
      },
      async cleanup() {
        await app.command('DEL', key);
        app.end();
      },
    };
  });
  for (const { name, run } of cases) test(name, run);
});

/**
 * Redis takes ids from its clock, so two logs that store an entry in the same millisecond may give it the same id. The suite needs an
 * id that only another log has generated. So an append here resolves after its millisecond: no later append can get the same id.
 */
function oneEntryPerMillisecond(journal: Journal): Journal {
  return {
    open: () => journal.open(),
    async append(entry) {
      const id = await journal.append(entry);
      while (Date.now() <= Number(id.split('-')[0])) await new Promise((resolve) => setImmediate(resolve));
      return id;
    },
    window: (max) => journal.window(max),
    read: (after, limit) => journal.read(after, limit),
    follow: (after, follower) => journal.follow(after, follower),
    compare: (a, b) => journal.compare(a, b),
    isId: (text) => journal.isId(text),
    close: () => journal.close(),
  };
}
