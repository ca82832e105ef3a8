/*
 * Two servers that share nothing but a Redis server, behind a load balancer of a few lines. When one server is killed, its
 * pages reconnect to the other and miss no event.
 *
 *   npm run example:many-machines                      http://localhost:3000; starts its own redis-server
 *   REDIS_URL=redis://… npm run example:many-machines  uses this Redis server
 *   curl -d 'Milk is out' http://localhost:3000/notes
 *   curl -X POST http://localhost:3000/kill            kills one server; so does kill -9
 *   examples/many-machines/publish.sh 'from a shell'   publishes without Node.js
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

const servers = new Map<ChildProcess, number>(); // with their ports
let stopping = false;

async function startServer(): Promise<void> {
  const server = fork(program, {
    env: { ...process.env, REDIS_URL: redis!.url },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  servers.set(server, 0);
  server.once('exit', (code, signal) => {
    servers.delete(server);
    if (stopping) return;
    console.log(`server ${server.pid} exited (${signal ?? code})`);
    if (signal) void startServer();
    else void stop(1); // the server has printed the reason
  });
  const port = await new Promise<number>((resolve) => server.once('message', resolve));
  servers.set(server, port);
  console.log(`server ${server.pid} is ready`);
}

/** Passes each connection to a random server that listens. */
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

async function stop(code: number): Promise<void> {
  if (stopping) return;
  stopping = true;
  balancer.close();
  await Promise.all(
    [...servers.keys()].map(async (server) => {
      server.kill('SIGTERM');
      await once(server, 'exit'); // a server in the map has not exited yet
    }),
  );
  await redis!.stop();
  process.exit(code);
}
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(0));

await Promise.all([startServer(), startServer()]);
balancer.once('error', (error: NodeJS.ErrnoException) => {
  const isInUse = error.code === 'EADDRINUSE';
  console.error(isInUse ? 'The port is in use. Choose another: PORT=4000 npm run example:many-machines' : error);
  void stop(1);
});
balancer.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`REDIS_URL=${redis.url}`);
  console.log(`listening on http://localhost:${(balancer.address() as AddressInfo).port}`);
});
