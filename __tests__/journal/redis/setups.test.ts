/*
 * The journal on Redis in different setups: prefixes, users, TLS, clusters, client settings of the application.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Journal } from '../../../lib/journal/journal.ts';
import { redisJournal } from '../../../lib/journal/redis/index.ts';
import { certificate } from '../../fixtures/certificate.ts';
import { startCluster } from '../../fixtures/redis-cluster.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { Proxy } from '../../fixtures/redis-proxy.ts';
import { frame, Recorder } from '../../fixtures/redis-recorder.ts';
import { RedisServer, startRedis } from '../../fixtures/redis-server.ts';

jest.setTimeout(60_000);
const cleanups: (() => unknown)[] = [];
let emitWarning: jest.SpiedFunction<typeof process.emitWarning>;
beforeEach(() => {
  emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // the servers here have no persistence, on purpose
  cleanups.push(() => emitWarning.mockRestore());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function server(...args: string[]): Promise<RedisServer> {
  const redis = await startRedis(...args);
  cleanups.push(() => redis.stop());
  return redis;
}

function closing<T extends Journal | TestClient>(what: T): T {
  cleanups.push(() => ('end' in what ? what.end() : what.close()));
  return what;
}

/** Publishes and follows, with a key and without, and checks the log. Returns the ids. */
async function checkJournal(journal: Journal): Promise<string[]> {
  await journal.open();
  const { floor } = await journal.window(0);
  const recorder = new Recorder(floor);
  journal.follow(floor, recorder);
  const ids = [
    await journal.append({ body: frame('1') }),
    await journal.append({ body: frame('2'), key: 'two', to: ['a'] }),
  ];
  expect(await journal.append({ body: frame('2'), key: 'two' })).toBe(ids[1]);
  await recorder.until(({ bodies }) => bodies.length === 2);
  expect(recorder.ids).toEqual([floor, ...ids]);
  expect(await journal.read(floor, 5)).toMatchObject({ ok: true, entries: ids.map((id) => ({ id })) });
  return ids;
}

const RIGHTS =
  '+xadd +xtrim +xread +xrange +xrevrange +xlen +xinfo +evalsha +eval +script|load +hmget +hset +pexpire +exists +get +set +time';

describe.each(kinds)('over $name', (kind) => {
  /** Returns the client of a user, `web`, with exactly these rights. */
  async function userOf({ port }: RedisServer, admin: TestClient, rights: string): Promise<TestClient> {
    const keys = ['resetkeys', '~{sse}:log*'];
    await admin.command('ACL', 'SETUSER', 'web', 'on', '>secret', ...keys, '-@all', ...rights.split(' '));
    return closing(await kind.make(`redis://web:secret@127.0.0.1:${port}`));
  }

  test('keyPrefix is added once to every key', async () => {
    const redis = await server();
    const [plain, app] = [
      closing(await kind.make(redis.url)),
      closing(await kind.make(redis.url, { keyPrefix: 'app:' })),
    ];
    for (const key of [undefined, 'news', '{tenant}:news']) {
      await plain.command('FLUSHALL');
      await checkJournal(closing(redisJournal(app.client, { key })));
      const keys = ((await plain.command('KEYS', '*')) as string[]).sort();
      const log = `app:${key ?? '{sse}:log'}`;
      expect(keys.length).toBe(3);
      expect(keys[0]).toBe(log);
      for (const other of keys) expect(other.startsWith(log)).toBe(true);
      const slots = await Promise.all(keys.map((each) => slotOf(each)));
      expect(new Set(slots).size).toBe(1);
    }
  });

  test('an ACL user with only the rights that the journal needs', async () => {
    const redis = await server();
    const app = await userOf(redis, closing(await kind.make(redis.url)), RIGHTS);
    await checkJournal(closing(redisJournal(app.client)));
    expect(emitWarning).not.toHaveBeenCalled(); // CONFIG and INFO are forbidden: no setting is known, so there is no warning
    const other = closing(redisJournal(app.client, { key: 'elsewhere' }));
    await expect(other.open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringContaining('NOPERM'),
    });
  });

  test('open() reports that a user may not load scripts, and every attempt closes its connection', async () => {
    const redis = await server();
    const admin = closing(await kind.make(redis.url));
    const app = await userOf(redis, admin, RIGHTS.replace(' +script|load', ''));
    const journal = closing(redisJournal(app.client));
    await expect(journal.open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringContaining('NOPERM'),
    });
    const received = async (): Promise<number> =>
      Number(/total_connections_received:(\d+)/.exec(String(await admin.command('INFO', 'stats')))![1]);
    const before = await received();
    while ((await received()) < before + 5) await sleep(20);
    const connections = String(await admin.command('CLIENT', 'LIST')).split('\n');
    const ofUser = connections.filter((line) => line.includes(' user=web '));
    expect(ofUser.length).toBeLessThanOrEqual(2); // the connection of this attempt, and a closed one that Redis has not noticed yet
  });

  test('another database, and client settings that would break a follower', async () => {
    const redis = await server();
    const settings = {
      ioredis: {
        commandTimeout: 100,
        socketTimeout: 300,
        enableAutoPipelining: true,
        stringNumbers: true,
        replyMapping: 'resp3',
        connectionName: 'web',
      },
      'node-redis': {
        socket: { socketTimeout: 300 },
        pingInterval: 50,
        commandsQueueMaxLength: 2,
        emitInvalidate: true,
        commandOptions: { typeMapping: { 58: String } },
      },
    }[kind.name];
    const app = closing(await kind.make(`${redis.url}/3`, settings));
    const journal = closing(redisJournal(app.client));
    await checkJournal(journal);
    const recorder = new Recorder((await journal.window(0)).floor);
    journal.follow(recorder.ids[0]!, recorder);
    await recorder.until(({ calls }) => calls.includes('up'));
    await sleep(2500); // longer than any of these timeouts, and than one blocking read
    const id = await journal.append({ body: frame('late') });
    await recorder.until(({ ids }) => ids.at(-1) === id);
    expect(recorder.calls).toEqual(['up']);
    const admin = closing(await kind.make(`${redis.url}/3`));
    expect(await admin.command('XLEN', '{sse}:log')).toBe(4);
  });

  test('RESP2 and RESP3, a Unix socket and socket options', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sse-router-sock-'));
    cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
    const path = join(dir, 'redis.sock');
    const redis = await server('--unixsocket', path);
    const { port } = redis;
    const setups =
      kind.name === 'ioredis'
        ? [{ protocol: 2 }, { protocol: 3, replyMapping: 'resp3' }, { path }]
        : [
            { RESP: 2 },
            { RESP: 3 },
            { url: undefined, socket: { path } },
            { url: undefined, socket: { host: '127.0.0.1', port } },
          ];
    for (const [i, setup] of setups.entries()) {
      const app = closing(await kind.make(redis.url, setup));
      await checkJournal(closing(redisJournal(app.client, { key: `setup${i}` })));
    }
  });

  test('TLS', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sse-router-tls-'));
    cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
    const [keyFile, certFile] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
    writeFileSync(keyFile, certificate.key);
    writeFileSync(certFile, certificate.cert);
    const secure = await freeProxyPort();
    const files = ['--tls-cert-file', certFile, '--tls-key-file', keyFile, '--tls-ca-cert-file', certFile];
    await server('--tls-port', String(secure), ...files, '--tls-auth-clients', 'no');
    const ca = certificate.cert;
    const options = kind.name === 'ioredis' ? { tls: { ca } } : { socket: { tls: true, ca } };
    const app = closing(await kind.make(`rediss://127.0.0.1:${secure}`, options));
    await checkJournal(closing(redisJournal(app.client)));
  });

  test('a cluster, with a cluster client and with a plain client that is redirected to the right node', async () => {
    const [one, two] = await cluster();
    const app = closing(await kind.cluster(one.url));
    await app.command('PING').catch(() => {}); // a client may discover its nodes only with the first command
    const keys = ['a', 'b', 'c', 'd', '{e}:log'];
    const slots = await Promise.all(keys.map(slotOf));
    expect(slots.some((slot) => slot < 8192) && slots.some((slot) => slot >= 8192)).toBe(true); // both nodes have some of them
    for (const key of keys) {
      await checkJournal(closing(redisJournal(app.client, { key })));
    }
    for (const node of [one, two]) {
      const plain = closing(await kind.make(node.url));
      const journal = closing(redisJournal(plain.client, { key: 'a' }));
      expect((await journal.window(10)).entries.length).toBe(2);
      await journal.append({ body: frame('3') });
      const again = closing(redisJournal(app.client, { key: 'a' }));
      expect((await again.window(10)).entries.length).toBe(3);
      await closing(await kind.cluster(one.url)).command('XTRIM', 'a', 'MAXLEN', '3');
    }
  });

  test('while a slot moves the journal is down, then up; no entry is lost', async () => {
    const [one, two] = await cluster();
    const app = closing(await kind.cluster(one.url));
    const [first, second] = await Promise.all([one, two].map(async (node) => closing(await kind.make(node.url))));
    const journal = closing(redisJournal(app.client, { key: 'a', wait: 20_000 }));
    await journal.open();
    const recorder = new Recorder((await journal.window(0)).floor);
    journal.follow(recorder.ids[0]!, recorder);
    await recorder.until(({ calls }) => calls.includes('up'));
    await journal.append({ body: frame('0') });
    const slot = String(await slotOf('a'));
    const [from, to, port] = Number(slot) < 8192 ? [first!, second!, two.port] : [second!, first!, one.port];
    const [fromId, toId] = (await Promise.all([from, to].map((node) => node.command('CLUSTER', 'MYID')))) as string[];
    await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId!);
    await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId!);
    const appends = [1, 2, 3].map((i) => journal.append({ body: frame(String(i)) }));
    const keys = (await from.command('CLUSTER', 'GETKEYSINSLOT', slot, '100')) as string[];
    await from.command('MIGRATE', '127.0.0.1', String(port), '', '0', '5000', 'KEYS', ...keys);
    const late = [4, 5, 6].map((i) => journal.append({ body: frame(String(i)) }));
    for (const node of [to, from]) await node.command('CLUSTER', 'SETSLOT', slot, 'NODE', toId!);
    await Promise.all([...appends, ...late]);
    await recorder.until(({ bodies }) => bodies.length >= 7);
    expect(recorder.bodies).toEqual([0, 1, 2, 3, 4, 5, 6].map((i) => `data: ${i}\n\n`));
    expect(recorder.calls.filter((call) => call.startsWith('re'))).toEqual([]);
  });
});

let hashServer: Promise<{ redis: RedisServer; client: TestClient }> | undefined;
afterAll(async () => {
  const { redis, client } = (await hashServer) ?? {};
  client?.end();
  await redis?.stop();
});

/** Returns the slot of a key, as Redis computes it. */
async function slotOf(key: string): Promise<number> {
  hashServer ??= startRedis('--cluster-enabled', 'yes').then(async (redis) => ({
    redis,
    client: await kinds[0]!.make(redis.url),
  }));
  return Number(await (await hashServer).client.command('CLUSTER', 'KEYSLOT', key));
}

async function freeProxyPort(): Promise<number> {
  const proxy = await Proxy.to(1);
  const { port } = proxy;
  await proxy.close();
  return port;
}

/** Starts two nodes with half of the slots each. */
async function cluster(): Promise<[RedisServer, RedisServer]> {
  const nodes = await startCluster();
  cleanups.push(...nodes.map((node) => () => node.stop()));
  return nodes;
}
