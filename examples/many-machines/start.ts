/*
 * Two servers that share nothing but a Redis, behind a balancer of a few lines: kill one, and its pages go on at the other
 * without a gap.
 *
 *   npm run example:many-machines                      http://localhost:3000, with a redis-server of its own
 *   REDIS_URL=redis://… npm run example:many-machines  with yours
 *   curl -d 'Milk is out' http://localhost:3000/notes
 *   curl -X POST http://localhost:3000/kill            or kill -9 one yourself
 *   examples/many-machines/publish.sh 'from a shell'   no Node.js needed to publish
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findRedis } from './redis.ts';

const program = join(dirname(fileURLToPath(import.meta.url)), 'server.ts');
const redis = await findRedis();
if (!redis) {
  console.error('This needs Redis: set REDIS_URL, or put redis-server or valkey-server on the PATH.');
  process.exit(1);
}

const servers = new Map<ChildProcess, number>(); // and their ports
let leaving = false;

async function hire(): Promise<void> {
  const server = fork(program, {
    env: { ...process.env, REDIS_URL: redis!.url },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  servers.set(server, 0);
  server.once('exit', (code, signal) => {
    servers.delete(server);
    if (leaving) return;
    console.log(`server ${server.pid} is gone (${signal ?? code})`);
    if (signal) void hire();
    else void leave(1); // it has said why
  });
  const port = await new Promise<number>((resolve) => server.once('message', resolve));
  servers.set(server, port);
  console.log(`server ${server.pid} is there`);
}

/** Every connection goes to one of the servers that listen. */
const balancer = createServer((client) => {
  const ports = [...servers.values()].filter((port) => port > 0);
  const port = ports[Math.floor(Math.random() * ports.length)];
  if (port === undefined) return void client.destroy();
  const server = connect(port, '127.0.0.1');
  client.pipe(server).pipe(client);
  for (const [one, other] of [
    [client, server],
    [server, client],
  ] as const) {
    one.on('error', () => {});
    one.on('close', () => other.destroy());
  }
});

async function leave(code: number): Promise<void> {
  if (leaving) return;
  leaving = true;
  balancer.close();
  await Promise.all(
    [...servers.keys()].map(async (server) => {
      server.kill('SIGTERM');
      await once(server, 'exit'); // who is in the map has not exited
    }),
  );
  await redis!.stop();
  process.exit(code);
}
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void leave(0));

await Promise.all([hire(), hire()]);
balancer.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`REDIS_URL=${redis.url}`);
  console.log(`listening on http://localhost:${(balancer.address() as AddressInfo).port}`);
});
