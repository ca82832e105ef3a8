/*
 * The orders example: an order that is rolled back has no event, on either server; all others have one, in one order.
 */
import pg from 'pg';
import { clear, listen, post, run, start } from './example-process.ts';

jest.setTimeout(60_000);
afterEach(clear);

test('orders of both servers reach the pages of both, and those that are rolled back reach none', async () => {
  const example = await start('orders/start.ts', { DATABASE_URL: '' }); // with a Postgres of its own
  const [, database] = await example.prints(/DATABASE_URL=(\S+)/);
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
  const client = new pg.Client({ connectionString: database! });
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
  const items = seen[0]!.map(({ item }) => item);
  expect(items.filter((item) => item.startsWith('item '))).toEqual(accepted);
  // A page may have opened after the first order of the servers themselves.
  const shorter = Math.min(...seen.map(({ length }) => length));
  expect(seen[0]!.slice(-shorter)).toEqual(seen[1]!.slice(-shorter));
  const rows = (await (await fetch(`${urls[1]}/orders`)).json()) as { id: number }[];
  const existing = new Set(rows.map(({ id }) => id));
  expect(seen[0]!.slice(0, -1).filter(({ id }) => !existing.has(id))).toEqual([]);
  expect((await example.stop()).code).toBe(0);
  await expect(new pg.Client({ connectionString: database! }).connect()).rejects.toThrow(/ECONNREFUSED/); // it has ended too
});

test('a database that cannot be reached ends it with the reason', async () => {
  const { code, output } = await run('orders/start.ts', { DATABASE_URL: 'postgres://postgres@127.0.0.1:1/x' });
  expect(output).toContain('ECONNREFUSED');
  expect(code).toBe(1);
});
