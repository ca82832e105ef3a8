/*
 * The suite that any journal must pass, on a real Redis, with both clients.
 */
import { randomUUID } from 'node:crypto';
import { conformance } from '../lib/conformance/index.ts';
import { redisJournal } from '../lib/redis/index.ts';
import { kinds } from './fixtures/redis-clients.ts';
import { someRedis } from './fixtures/redis-server.ts';

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
      journal: redisJournal(app.client, { key }),
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
