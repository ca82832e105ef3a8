/*
 * The orders example: an order that is rolled back has no event, on either server; all others have one, in one order.
 */
import pg from 'pg';
import { clear, listen, post, run, start } from './example-process.ts';
import { somePostgres } from '../fixtures/postgres-server.ts';

jest.setTimeout(60_000);
afterEach(clear);

test('orders of both servers reach the pages of both, and those that are rolled back reach none', async () => {
  const postgres = await somePostgres();
  try {
    const example = await start('orders/start.ts', { DATABASE_URL: postgres.url });
    await example.prints(/^ready$/m);
    const urls = [...example.output().matchAll(/listening on (http:\S+)/g)].map(([, url]) => url!);
    expect(urls.length).toBe(2);
    const pages = urls.map((url) => listen(`${url}/events`, ['order', 'reset']));
    await Promise.all(pages.map(({ opening }) => opening));
    expect(await (await fetch(urls[0]!)).text()).toContain('new EventSource');

    const accepted: string[] = [];
    for (let n = 0; n < 12; n++) {
      const refused = n % 3 === 2;
      const response = await post(`${urls[n % 2]}/orders`, { item: `item ${n}`, refused });
      expect(response.status).toBe(refused ? 402 : 201);
      if (!refused) accepted.push(`item ${n}`);
    }
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    await client.query(`SELECT sse_publish('order', '{"id":0,"item":"from SQL"}')`);
    await client.end();

    const seen: { id: number; item: string }[][] = [[], []];
    for (const [n, page] of pages.entries()) {
      while (seen[n]!.at(-1)?.item !== 'from SQL') {
        const { event, data } = await page.next();
        expect(event).toBe('order');
        seen[n]!.push(JSON.parse(data));
      }
    }
    expect(seen[0]!.length).toBe(seen[1]!.length);
    expect(seen[0]).toEqual(seen[1]);
    const items = seen[0]!.map(({ item }) => item);
    expect(items.filter((item) => item.startsWith('item '))).toEqual(accepted);
    const rows = (await (await fetch(`${urls[1]}/orders`)).json()) as { id: number }[];
    const existing = new Set(rows.map(({ id }) => id));
    expect(seen[0]!.slice(0, -1).filter(({ id }) => !existing.has(id))).toEqual([]);
    expect((await example.stop()).code).toBe(0);
  } finally {
    await postgres.stop();
  }
});

test('without DATABASE_URL it starts a Postgres of its own, and ends it', async () => {
  const example = await start('orders/start.ts', { DATABASE_URL: '' });
  const [, url] = await example.prints(/DATABASE_URL=(\S+)/);
  await example.prints(/^ready$/m);
  expect((await example.stop()).code).toBe(0);
  await expect(new pg.Client({ connectionString: url! }).connect()).rejects.toThrow(/ECONNREFUSED/);
});

test('a database that cannot be reached ends it with the reason', async () => {
  const { code, output } = await run('orders/start.ts', { DATABASE_URL: 'postgres://postgres@127.0.0.1:1/x' });
  expect(output).toContain('ECONNREFUSED');
  expect(code).toBe(1);
});
