/*
 * The two examples with several servers: a server is killed while clients read, and the clients miss no event.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { clear, keptPort, listen, read, run, start } from './example-process.ts';
import { findProgram } from '../fixtures/redis-server.ts';

jest.setTimeout(90_000);
afterEach(clear);

/** Options for a request on its own connection, so that no request waits for a killed server. */
const once = (body: string) => ({ method: 'POST', body, headers: { connection: 'close' } });

/**
 * Posts a note again until a server acknowledges it, because no server may listen for a moment after a kill. Adds attempts with an
 * unknown outcome to `unsure`.
 */
async function postNote(url: string, text: string, unsure: Set<string>): Promise<string> {
  for (let tries = 0; ; tries++) {
    const attempt = `${text}, attempt ${tries}`;
    const answer = await fetch(`${url}/notes`, once(attempt)).catch((error: Error) => error);
    if ('status' in answer && answer.status === 201) return attempt;
    if (tries === 300) throw new Error('No server accepted a note', { cause: answer });
    unsure.add(attempt); // the server was killed before it could acknowledge the note
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test.each(['cluster/start.ts', 'many-machines/start.ts'])(
  '%s: a server is killed, and no client misses an event',
  async (file) => {
    if (file.startsWith('many')) await findProgram();
    const example = await start(file, { REDIS_URL: '', PORT: await keptPort() });
    const readers = Array.from({ length: 6 }, () => listen(`${example.url}/events`, ['note', 'reset']));
    await Promise.all(readers.map(({ opening }) => opening));
    expect(await (await fetch(example.url)).text()).toContain('new EventSource');

    const acknowledged: string[] = [];
    const unsure = new Set<string>();
    let isCut = false;
    const cut = Promise.race(readers.map((reader) => reader.cut())).then(() => (isCut = true));
    for (let n = 0; n < 30; n++) {
      acknowledged.push(await postNote(example.url, `note ${n}`, unsure));
      if (n < 10 || n % 5 > 0 || isCut) continue;
      await fetch(`${example.url}/kill`, once('')).catch(() => {}); // until a kill disconnects a client
    }
    // If all clients are connected to one server, every kill so far may have hit the other one.
    for (let tries = 0; !isCut && tries < 100; tries++) {
      await fetch(`${example.url}/kill`, once('')).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await example.prints(/exited \(SIGKILL\)/);
    await cut;
    for (const reader of readers) {
      const seen: string[] = [];
      while (seen.at(-1) !== acknowledged.at(-1)) seen.push((await reader.next()).data);
      expect(seen.filter((text) => !unsure.has(text))).toEqual(acknowledged);
      expect(new Set(seen).size).toBe(seen.length);
      expect(reader.waiting).toEqual([]);
    }
    expect((await example.stop()).code).toBe(0);
  },
);

test('publish.sh: an event published without Node.js reaches the page', async () => {
  await findProgram();
  const example = await start('many-machines/start.ts', { REDIS_URL: '' });
  const [, url] = await example.prints(/REDIS_URL=(\S+)/);
  const { next } = await read(`${example.url}/events`);
  expect(await next()).toMatchObject({ event: 'checkpoint' });
  const script = join(__dirname, '../..', 'examples', 'many-machines', 'publish.sh');
  const id = execFileSync(script, ['from a shell'], {
    env: { ...process.env, REDIS_URL: url },
    encoding: 'utf8',
  }).trim();
  let seen = await next();
  while (seen?.event === 'tick') seen = await next();
  expect(seen).toEqual({ event: 'note', data: 'from a shell', id });
  expect((await example.stop()).code).toBe(0);
});

test('many-machines without Redis prints one line with the cure', async () => {
  const { code, output } = await run('many-machines/start.ts', { REDIS_URL: '', PATH: '/nowhere' });
  expect(output).toBe('This needs Redis: set REDIS_URL, or put redis-server or valkey-server on the PATH.\n');
  expect(code).toBe(1);
});
