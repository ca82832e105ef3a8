/*
 * The configurations of docs/deploying.md: pm2 replaces processes without a lost event, the steps of the Dockerfile run in a clean
 * folder, systemd reads its unit, and the types of Kubernetes accept its objects.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { EventSource } from 'eventsource';
import { keptPort } from '../examples/example-process.ts';
import { systemdAnalyzePath } from '../fixtures/programs.ts';
import { eventually } from '../fixtures/http.ts';
import { blocksOf, build, exitCode, hasModule, type Image, installPackages, writeContext } from './image.ts';
import { type Pm2, pm2In } from './pm2.ts';

const run = promisify(execFile);
const root = join(__dirname, '../..');
const CLIENTS = 10;
/** A client waits 2 to 5 seconds before it reconnects, and may reach a process that is about to stop. */
const RETURN_MS = 15_000;

let packages: string;
let folder: string;
let image: Image;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sse-router-deploying-'));
  const context = join(folder, 'context');
  [packages] = await Promise.all([installPackages(), writeContext(context)]);
  const [dockerfile] = (await blocksOf('dockerfile')) as [string];
  image = await build(dockerfile, context, join(folder, 'image'));
}, 300_000); // the packages may have to be installed
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the Dockerfile', () => {
  test('installs what the server needs, and names its port and its user', () => {
    expect(['express', 'sse-router'].filter((name) => !hasModule(image, name))).toEqual([]);
    expect([image.user, image.port, image.env['NODE_ENV']]).toEqual(['node', image.env['PORT'], 'production']);
  });

  test('starts a server that its health check finds, and SIGTERM ends it with 0', async () => {
    const port = await keptPort();
    expect(await exitCode(image, image.healthCheck, port)).toBe(1);
    const [program, ...args] = image.command;
    const env = { ...process.env, ...image.env, PORT: port, CLOSE_OVER_MS: '0' };
    const server = spawn(program!, args, { cwd: image.folder, env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const exited = once(server, 'exit');
    expect(await once(server, 'message')).toEqual(['ready', undefined]);
    expect(await exitCode(image, image.healthCheck, port)).toBe(0);
    const { status, headers, body } = await fetch(`http://127.0.0.1:${port}/events`);
    expect([status, headers.get('Content-Type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
    server.kill('SIGTERM'); // as `docker stop`: no shell is in between
    expect(await exited).toEqual([0, null]);
    await body!.cancel();
  });
});

describe('pm2', () => {
  let pm2: Pm2 | undefined;
  const sources: EventSource[] = [];
  afterEach(async () => {
    for (const source of sources.splice(0)) source.close();
    await pm2?.kill();
  });

  test('reload replaces both processes, and no client misses an event or receives one twice', async () => {
    const [configuration, several] = (await blocksOf('js')) as [string, string];
    const server = await readFile(join(image.folder, 'server.js'), 'utf8');
    const [imported, made] = several.trim().split('\n\n') as [string, string];
    const sending = `app.post('/send/:n', async (req, res) => {
      await events.broadcast({ data: { n: Number(req.params.n), pid: process.pid } }, { key: req.params.n });
      res.sendStatus(204);
    });`;
    const shared = server.replace('const events = sse();', made).replace(/^const server/m, `${sending}\n$&`);
    expect(shared).toContain('lmdbJournal(');
    await writeFile(join(image.folder, 'server.js'), `${imported}\n${shared}`);
    await writeFile(join(image.folder, 'ecosystem.config.cjs'), configuration);
    const port = await keptPort();
    const variables = { PORT: port, EVENTS: join(folder, 'events'), CLOSE_OVER_MS: '1000' };
    pm2 = pm2In(packages, join(folder, 'pm2'), image.folder, variables);
    await pm2.call('start', 'ecosystem.config.cjs');
    const before = await pm2.processes();
    expect(before.map(({ status }) => status)).toEqual(['online', 'online']);

    const clients = Array.from({ length: CLIENTS }, () => {
      const source = new EventSource(`http://127.0.0.1:${port}/events`);
      sources.push(source);
      const client = { source, opens: 0, resets: 0, received: [] as { n: number; pid: number }[] };
      source.addEventListener('open', () => client.opens++);
      source.addEventListener('reset', () => client.resets++);
      source.addEventListener('message', ({ data }) => client.received.push(JSON.parse(data as string)));
      return client;
    });
    await eventually(() => clients.every(({ opens }) => opens === 1));
    let sent = 0;
    let refused = 0;
    const send = async (): Promise<void> => {
      const url = `http://127.0.0.1:${port}/send/${++sent}`;
      // pm2 may pass a connection to a process that closes at this moment. The request is sent again, and has a key: on a busy machine,
      // it may have been read, and only its answer was lost.
      const response = await fetch(url, { method: 'POST' }).catch(async () => {
        refused++;
        return fetch(url, { method: 'POST' });
      });
      expect(response.status).toBe(204);
    };
    await send();
    let isReloaded = false;
    const reloaded = pm2.call('reload', 'ecosystem.config.cjs').finally(() => (isReloaded = true));
    while (!isReloaded) await send(); // oxlint-disable-line no-await-in-loop -- each request reaches one of the processes
    expect(await reloaded).toMatch(/reloadProcessId[^]*\(0\)[^]*\(1\)/);

    const after = await pm2.processes();
    expect(after.map(({ status }) => status)).toEqual(['online', 'online']);
    const pids = [...before, ...after].map(({ pid }) => pid);
    expect(new Set(pids).size).toBe(4);
    // Each client has lost its stream, because both old processes have ended, and reads from a new one now.
    await eventually(() => clients.every(({ source, opens }) => source.readyState === 1 && opens > 1), RETURN_MS);
    await send();
    const all = Array.from({ length: sent }, (_, index) => index + 1);
    await eventually(() => clients.every(({ received }) => received.at(-1)?.n === sent));
    expect(all.length).toBeGreaterThan(20);
    expect(refused).toBeLessThanOrEqual(2); // one for each process, at most
    for (const { received, resets } of clients) {
      expect([received.map(({ n }) => n), resets]).toEqual([all, 0]);
    }
    const writers = new Set(clients[0]!.received.map(({ pid }) => pid));
    expect([...writers].filter((pid) => !pids.includes(pid))).toEqual([]);
    expect(writers.size).toBeGreaterThan(2);
    expect(pm2.log()).not.toContain('SIGKILL'); // kill_timeout was long enough
  });
});

test('systemd-analyze has nothing to report about the unit', async () => {
  const [unit] = (await blocksOf('ini')) as [string];
  const check = async (text: string): Promise<string> => {
    const file = join(folder, 'app.service');
    await writeFile(file, text.replace('/usr/bin/node', process.execPath));
    return (await run(systemdAnalyzePath(), ['verify', '--man=no', file])).stderr;
  };
  expect(await check(unit)).toBe('');
  expect(await check(unit.replace('KillSignal', 'KillSignall'))).toContain('KillSignall');
});

describe('the objects of Kubernetes', () => {
  let text: string;
  let objects: any[];

  beforeAll(async () => {
    [text] = (await blocksOf('yaml')) as [string];
    objects = parse(text);
  });

  function parse(yaml: string): any[] {
    const { parseAllDocuments } = createRequire(join(packages, 'package.json'))('yaml') as {
      parseAllDocuments: (source: string) => { errors: unknown[]; toJS(): any }[];
    };
    const documents = parseAllDocuments(yaml);
    expect(documents.flatMap(({ errors }) => errors)).toEqual([]);
    return documents.map((document) => document.toJS());
  }

  /** Compiles the objects against the types that are made of the OpenAPI document of Kubernetes. Returns what the compiler prints. */
  async function errorsOf(given: any[]): Promise<string> {
    const lines = given.map((object, index) => {
      const path = object.apiVersion.includes('/') ? object.apiVersion.replace('.k8s.io', '') : 'core/v1';
      return `import type { ${object.kind} as T${index} } from 'kubernetes-types/${path}';
        export const object${index}: T${index} = ${JSON.stringify(object)};`;
    });
    const file = join(packages, 'objects.ts');
    await writeFile(file, lines.join('\n'));
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--ignoreConfig', '--module', 'nodenext', '--types', ''];
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const report = run(process.execPath, [tsc, ...options, file]).catch((error: { stdout: string }) => error);
    return (await report).stdout;
  }

  test('have only fields that Kubernetes has, with values of their types', async () => {
    expect(objects.map(({ kind }) => kind)).toEqual(['Deployment', 'Service', 'Ingress']);
    expect(await errorsOf(objects)).toBe('');
    expect(await errorsOf(parse(text.replace('livenessProbe', 'livenesProbe')))).toMatch(
      /livenesProbe.* does not exist/,
    );
    expect(await errorsOf(parse(text.replace('replicas: 2', "replicas: '2'")))).toContain(
      "Type 'string' is not assignable to type 'number'",
    );
  });

  test('refer to each other, and to the port and the path of the server', async () => {
    const [deployment, service, ingress] = objects;
    const { template, selector } = deployment.spec;
    const [container] = template.spec.containers;
    expect([selector.matchLabels, service.spec.selector]).toEqual([template.metadata.labels, template.metadata.labels]);
    expect(container.ports).toEqual([{ name: 'http', containerPort: Number(image.port) }]);
    for (const probe of [container.readinessProbe, container.livenessProbe]) {
      expect(probe.httpGet).toEqual({ path: '/health', port: container.ports[0].name });
    }
    expect(await readFile(join(image.folder, 'server.js'), 'utf8')).toContain("app.get('/health'");
    const [port] = service.spec.ports;
    expect(port.targetPort).toBe(container.ports[0].name);
    const { backend } = ingress.spec.rules[0].http.paths[0];
    expect(backend.service).toEqual({ name: service.metadata.name, port: { name: port.name } });
  });
});
