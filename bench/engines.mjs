// The engines that store the logs of one run: a Redis or Postgres that the run starts, the one at REDIS_URL or DATABASE_URL, or files.
// Invariant: stop() ends what the run has started, and deletes what it has written.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tsImport } from 'tsx/esm/api';
import { pinned } from './processes.mjs';

// Not the system's temporary folder, which is often in memory: an fsync would cost nothing there.
const scratch = fileURLToPath(new URL('.tmp/logs/', import.meta.url));
const tick = 10; // ms: the unit of /proc/PID/stat is a hundredth of a second on every Linux that Node runs on

/** Loads the fixture with which the tests start Redis. It is TypeScript, which only the orchestrator has to load. */
const fixture = () => tsImport('../__tests__/fixtures/redis-server.ts', import.meta.url);

const postgresFixture = () => tsImport('../__tests__/fixtures/postgres-server.ts', import.meta.url);

export async function startEngine(journal, core) {
  await mkdir(scratch, { recursive: true });
  const folder = await mkdtemp(scratch);
  try {
    if (journal.client) return await Redis.start(journal, folder, core);
    if (journal.engine === 'postgres') return await Postgres.start(journal, folder, core);
    return new Files(journal, folder);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

class Files {
  #journal;
  #folder;
  #logs = 0;
  /** Notes that are printed below the table. */
  notes = [];

  constructor(journal, folder) {
    this.#journal = journal;
    this.#folder = folder;
  }

  /** Returns a new log, as an argument for openJournal(). */
  log() {
    return { ...this.#journal, at: join(this.#folder, String(++this.#logs)) };
  }

  /** The engine has no process of its own. */
  async cpu() {
    return undefined;
  }

  /** Returns the bytes on disk. They are counted in blocks, because a file may have holes. */
  async bytes({ at }) {
    const files = await Promise.all((await readdir(at)).map((name) => stat(join(at, name))));
    return files.reduce((sum, { blocks }) => sum + blocks * 512, 0);
  }

  stop() {
    return rm(this.#folder, { recursive: true, force: true });
  }
}

class Redis {
  #journal;
  #folder;
  #server;
  #client;
  #keys = [];
  notes = [];

  static async start(journal, folder, core) {
    const redis = new Redis();
    redis.#journal = journal;
    redis.#folder = folder;
    redis.#server = await redis.#find(core);
    try {
      const { createClient } = await import('redis');
      redis.#client = createClient({ url: redis.#server.url });
      redis.#client.on('error', () => {}); // a call that fails also rejects
      await redis.#client.connect();
    } catch (error) {
      await redis.#server.stop();
      throw error;
    }
    return redis;
  }

  async #find(core) {
    const url = process.env.REDIS_URL;
    if (url) {
      this.notes.push('Redis was the one at REDIS_URL, so its CPU time is not available.');
      return { url, stop() {} };
    }
    const { startRedis } = await fixture();
    // As docs/journals.md advises.
    const server = await startRedis('--appendonly', 'yes', '--dir', this.#folder);
    if (pinned) spawnSync('taskset', ['-a', '-c', '-p', String(core), String(server.pid)]);
    if ((await cpuOf(server.pid)) === undefined) {
      this.notes.push("Redis' CPU is read from /proc, which this system does not have.");
    }
    return server;
  }

  log() {
    const key = `{bench-${randomBytes(6).toString('hex')}}:log`;
    this.#keys.push(key);
    return { ...this.#journal, at: this.#server.url, key };
  }

  /** Returns the CPU time of its process so far in milliseconds: all threads, user and system. */
  cpu() {
    return cpuOf(this.#server.pid);
  }

  bytes({ key }) {
    return this.#client.sendCommand(['MEMORY', 'USAGE', key, 'SAMPLES', '0']);
  }

  async stop() {
    // A server that the run did not start keeps running. The few small keys beside a log expire.
    if (this.#server.pid === undefined && this.#keys.length > 0) await this.#client.del(this.#keys);
    this.#client.destroy();
    await this.#server.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

class Postgres {
  #journal;
  #folder;
  #server;
  #pool;
  #tables = [];
  notes = [];

  static async start(journal, folder, core) {
    const postgres = new Postgres();
    postgres.#journal = journal;
    postgres.#folder = folder;
    postgres.#server = await postgres.#find(core);
    const { default: pg } = await import('pg');
    postgres.#pool = new pg.Pool({ connectionString: postgres.#server.url, max: 1 });
    return postgres;
  }

  async #find(core) {
    const url = process.env.DATABASE_URL;
    if (url) {
      this.notes.push('Postgres was the one at DATABASE_URL, whose CPU cannot be told from here.');
      return { url, stop() {} };
    }
    const { startPostgres } = await postgresFixture();
    // Its files lie in the system's folder for temporary ones: those of the repository may be closed to its account.
    const server = await startPostgres();
    // The processes that it starts for connections inherit the core.
    if (pinned) spawnSync('taskset', ['-c', '-p', String(core), String(server.pid)]);
    if ((await cpuOf(server.pid)) === undefined) {
      this.notes.push("Postgres' CPU is read from /proc, which this system has not.");
    }
    return server;
  }

  log() {
    const key = `bench_${randomBytes(6).toString('hex')}`;
    this.#tables.push(key);
    return { ...this.#journal, at: this.#server.url, key };
  }

  /** Milliseconds of all its processes so far, also of those that have ended. */
  async cpu() {
    const { pid } = this.#server;
    if (pid === undefined) return undefined;
    const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' });
    const children = await Promise.all(
      stdout
        .split('\n')
        .filter(Boolean)
        .map((child) => cpuOf(Number(child))),
    );
    const own = await cpuOf(pid, true);
    return own === undefined ? undefined : children.reduce((sum, ms) => sum + (ms ?? 0), own);
  }

  /** With the index, and with what removed entries have left until it is used again. */
  async bytes({ key }) {
    const { rows } = await this.#pool.query(`SELECT pg_total_relation_size('${key}_log') AS bytes`);
    return Number(rows[0].bytes);
  }

  async stop() {
    // Where the server is somebody's.
    if (this.#server.pid === undefined) {
      for (const key of this.#tables) {
        await this.#pool.query(`DROP TABLE IF EXISTS ${key}_log, ${key}_outbox, ${key}_state, ${key}_producer`);
      }
    }
    await this.#pool.end();
    await this.#server.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** `children`: also of its children that have ended. */
async function cpuOf(pid, children = false) {
  if (pid === undefined) return undefined;
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the name in brackets, which may contain spaces. The first field after it is the third.
    const times = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, children ? 15 : 13);
    return times.reduce((sum, time) => sum + Number(time), 0) * tick;
  } catch {
    return undefined;
  }
}

/** Returns the versions of the servers for the report, without those that are not available. */
export async function engineVersion() {
  return { ...(await redisVersion()), ...(await postgresVersion()) };
}

async function redisVersion() {
  if (process.env.REDIS_URL) return { 'redis-server': 'at REDIS_URL' };
  try {
    const program = await (await fixture()).findProgram();
    const [, name, version] = /(\w+).* v=(\S+)/.exec(spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout);
    return { [`${name.toLowerCase()}-server`]: version };
  } catch {
    return {};
  }
}

async function postgresVersion() {
  if (process.env.DATABASE_URL) return { postgres: 'at DATABASE_URL' };
  try {
    const { serverVersion } = await postgresFixture();
    return { postgres: serverVersion() };
  } catch {
    return {};
  }
}
