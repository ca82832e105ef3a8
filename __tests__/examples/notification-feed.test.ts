import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clear, listen, post, read, run, type Running, start } from './example-process.ts';

const SERVER = 'notification-feed/server.ts';
let folder: string;
let server: Running;
let elsewhere: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'feed-'));
  mkdirSync(join(folder, 'notes'));
  mkdirSync(join(folder, 'node_modules'));
  server = await start(SERVER, { WATCH: folder });
  elsewhere = (await server.prints(/another origin: (\S+)/))[1]!;
});

afterEach(() => {
  clear();
  rmSync(folder, { recursive: true });
});

test('serves the page and all its resources itself, with a strict policy', async () => {
  for (const [origin, feed] of [
    [server.url, ''],
    [elsewhere, server.url],
  ]) {
    const page = await fetch(`${origin}/`);
    expect(page.status).toBe(200);
    const policy = page.headers.get('content-security-policy')!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).not.toMatch(/unsafe|https:|\*/);
    const html = await page.text();
    expect(html).toContain(`data-feed="${feed}"`);
    expect(html).not.toMatch(/<script>|style=|\son\w+=/);
    const links = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path!);
    const script = await (await fetch(`${origin}/feed.js`)).text();
    links.push(...[...script.matchAll(/import\('(\/[^']+)'/g)].map(([, path]) => path!));
    expect(links).toEqual(expect.arrayContaining(['/feed.css', '/feed.js', '/vendor/uPlot.esm.js']));
    for (const path of links) expect([path, (await fetch(`${origin}${path}`)).status]).toEqual([path, 200]);
  }
  expect((await server.stop()).code).toBe(0);
});

test('curl receives the first bytes within a second', async () => {
  const since = Date.now();
  const first = await new Promise<string>((resolve, reject) => {
    const asked = request(`${server.url}/events`, { headers: { Accept: '*/*', 'User-Agent': 'curl/8.5.0' } });
    asked.once('error', reject).once('response', (res) => {
      res.setEncoding('utf8').once('data', (text: string) => {
        resolve(text);
        asked.destroy();
      });
    });
    asked.end();
  });
  expect(Date.now() - since).toBeLessThan(1000);
  expect(first).toMatch(/^:\nretry: 2000\n/);
});

test('a posted notice arrives in two streams, with the id of the answer', async () => {
  const names = ['notice', 'snapshot', 'hello'];
  const streams = [listen(`${server.url}/events`, names), listen(`${server.url}/events`, names)];
  for (const { next } of streams) {
    expect((await next()).event).toBe('snapshot');
    expect((await next()).event).toBe('hello');
  }
  const answer = await post(`${server.url}/notices`, { text: ' <b>tea</b> is ready ' }, { Cookie: 'reader=00fe' });
  expect(answer.status).toBe(201);
  const { id } = (await answer.json()) as { id: string };
  for (const { next } of streams) {
    const seen = await next();
    expect(seen).toMatchObject({ event: 'notice', id });
    expect(JSON.parse(seen.data)).toMatchObject({ kind: 'notice', from: '00fe', text: '<b>tea</b> is ready' });
  }
  for (const text of ['', '   ', 'x'.repeat(281), 7, undefined]) {
    const refused = await post(`${server.url}/notices`, { text });
    expect(refused.status).toBe(400);
    expect(((await refused.json()) as { error: string }).error).toContain('280');
  }
});

test('counts its readers as they connect and disconnect', async () => {
  const one = listen(`${server.url}/events`, ['vitals']);
  const reaches = async (count: number) => {
    while ((JSON.parse((await one.next()).data) as { readers: number }).readers !== count);
  };
  await reaches(1);
  const two = listen(`${server.url}/events`, ['vitals']);
  await reaches(2);
  expect(JSON.parse((await two.next()).data)).toMatchObject({ readers: 2 });
  two.source.close();
  await reaches(1);
});

test('the second origin reads with credentials, the stream sets a cookie and recognises it, and other origins may not read', async () => {
  const url = `${server.url}/events`;
  const first = await read(url, { headers: { Origin: elsewhere } });
  expect(first.response.headers.get('access-control-allow-origin')).toBe(elsewhere);
  expect(first.response.headers.get('access-control-allow-credentials')).toBe('true');
  const cookie = first.response.headers.get('set-cookie')!;
  expect(cookie).toMatch(/^reader=[0-9a-f]{4}; Path=\/; HttpOnly; SameSite=Lax$/);
  const [pair] = cookie.split(';');

  const second = await read(url, { headers: { Origin: elsewhere, Cookie: pair! } });
  expect(second.response.headers.get('set-cookie')).toBeNull();
  await second.next();
  const hello = JSON.parse((await second.next())!.data) as { reader: string };
  expect(`reader=${hello.reader}`).toBe(pair);

  expect((await fetch(url, { headers: { Origin: 'http://localhost:1' } })).status).toBe(403);
  const preflight = await fetch(`${server.url}/notices`, {
    method: 'OPTIONS',
    headers: { Origin: elsewhere, 'Access-Control-Request-Method': 'POST' },
  });
  expect(preflight.headers.get('access-control-allow-origin')).toBe(elsewhere);
});

test('reports files that are added, changed and removed, also in new folders, except ignored ones', async () => {
  const { next, opening } = listen(`${server.url}/events`, ['file']);
  await opening;
  const change = async () => {
    const { change: what, path } = JSON.parse((await next()).data) as { change: string; path: string };
    return `${what} ${path}`;
  };
  writeFileSync(join(folder, 'node_modules', 'ignored.js'), 'x');
  writeFileSync(join(folder, '.hidden'), 'x');
  writeFileSync(join(folder, 'notes', 'a.md'), 'x');
  expect(await change()).toBe('added notes/a.md');
  writeFileSync(join(folder, 'notes', 'a.md'), 'xy');
  expect(await change()).toBe('changed notes/a.md');
  mkdirSync(join(folder, 'new', 'deep'), { recursive: true });
  writeFileSync(join(folder, 'new', 'deep', 'b.md'), 'x');
  expect(await change()).toBe('added new/deep/b.md');
  rmSync(join(folder, 'new'), { recursive: true });
  expect(await change()).toBe('removed new/deep/b.md');
  rmSync(join(folder, 'notes', 'a.md'));
  expect(await change()).toBe('removed notes/a.md');
});

test('reports the machine at once, so that a page is never empty', async () => {
  const { next } = await read(`${server.url}/events`);
  const { entries } = JSON.parse((await next())!.data) as { entries: Array<{ kind: string; what: string }> };
  expect(entries.map(({ what }) => what)).toEqual(expect.arrayContaining(['load', 'memory']));
});

test('a returning client gets the missed events; after a restart of the server it gets a reset and the state', async () => {
  const one = listen(`${server.url}/events`, ['notice']);
  await one.opening;
  await post(`${server.url}/notices`, { text: 'seen' });
  const { id } = await one.next();
  one.source.close();
  await post(`${server.url}/notices`, { text: 'missed' });

  const back = listen(`${server.url}/events?lastEventId=${id}`, ['notice', 'reset', 'snapshot']);
  expect(JSON.parse((await back.next()).data)).toMatchObject({ text: 'missed' });
  back.source.close();

  await server.stop();
  server = await start(SERVER, { WATCH: folder });
  const lost = listen(`${server.url}/events?lastEventId=${id}`, ['reset', 'snapshot', 'hello']);
  expect(await lost.next()).toMatchObject({ event: 'reset' });
  expect(await lost.next()).toMatchObject({ event: 'snapshot' });
  expect(await lost.next()).toMatchObject({ event: 'hello' });
});

test('a reader may disconnect or end its own streams, and no others', async () => {
  const own = { Cookie: 'reader=0a0a' };
  const stream = listen(`${server.url}/events`, ['hello', 'end'], own);
  const hello = JSON.parse((await stream.next()).data) as { stream: string };
  const act = (how: string, headers: Record<string, string>) =>
    post(`${server.url}/streams/${hello.stream}/${how}`, {}, headers);
  expect((await act('end', { Cookie: 'reader=0b0b' })).status).toBe(404);
  expect((await act('stop', own)).status).toBe(404);
  expect((await act('end', own)).status).toBe(200);
  expect((await stream.next()).event).toBe('end');
  await stream.cut();
  if (stream.source.readyState !== stream.source.CLOSED) await stream.cut();
  expect(stream.source.readyState).toBe(stream.source.CLOSED);
});

test('a port in use causes one line of output, not a stack', async () => {
  const { port } = new URL(server.url);
  const { code, output } = await run(SERVER, { PORT: port, WATCH: folder });
  expect(code).toBe(1);
  expect(output).toBe(`Port ${port} is in use. Choose another: PORT=${Number(port) + 1000} npm start\n`);
});

test('exits with code 0 while pages are connected', async () => {
  const { opening, cut } = listen(`${server.url}/events`, ['notice']);
  await opening;
  const [{ code, ms }] = await Promise.all([server.stop(), cut()]);
  expect(code).toBe(0);
  expect(ms).toBeLessThan(5000);
});
