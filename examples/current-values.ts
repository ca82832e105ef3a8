/*
 * Current values in every process. Each process holds all prices in memory and follows the log, so a change that any process
 * broadcasts reaches all of them. Processes with the same directories share the prices and the log.
 *
 *   EVENTS=./events PRICES=./prices npx tsx examples/current-values.ts
 *   curl -X PUT -H 'Content-Type: application/json' -d '{"price":3}' http://localhost:3000/prices/tea
 *   curl http://localhost:3000/prices
 */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';
import { lmdbJournal } from '../lib/journal/lmdb/index.ts';

const events = sse({ history: lmdbJournal(process.env.EVENTS!) });
const prices = new Map<string, number>();

async function keepCurrent() {
  const after = await events.broadcast('loading', { to: [] }); // for no connection; its id is the position before the load
  await loadPrices();
  for await (const change of events.follow({ to: 'prices', after })) {
    if (change.type === 'reset') await loadPrices();
    else await loadPrice(JSON.parse(change.data).item);
  }
}

const app = express();
app.use('/events', events);
app.get('/prices', (_req, res) => void res.json(Object.fromEntries(prices)));
app.put('/prices/:item', express.json(), async (req, res) => {
  const change = { item: req.params.item!, price: Number(req.body.price) };
  await storePrice(change.item, change.price);
  await events.broadcast({ event: 'price', data: change }, { to: 'prices' });
  res.sendStatus(204);
});
// #endregion docs

// The database of the prices: a file for each.
const folder = process.env.PRICES ?? mkdtempSync(join(tmpdir(), 'prices-'));
mkdirSync(folder, { recursive: true });

async function storePrice(item: string, price: number): Promise<void> {
  await writeFile(join(folder, encodeURIComponent(item)), String(price));
}

async function loadPrice(item: string): Promise<void> {
  prices.set(item, Number(await readFile(join(folder, encodeURIComponent(item)), 'utf8')));
}

async function loadPrices(): Promise<void> {
  await Promise.all((await readdir(folder)).map((file) => loadPrice(decodeURIComponent(file))));
}

const following = keepCurrent();
await running(app.listen(process.env.PORT ?? 3000), async () => {
  await events.close();
  await following;
});
