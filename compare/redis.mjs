// A Redis server for the rows about two processes, and a connection to it that can be cut.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const { REDIS_URL } = process.env;

/** Uses the server at `REDIS_URL`, or starts `redis-server` or `valkey-server` of the PATH on a free port. */
export async function startRedis() {
  if (REDIS_URL) return { url: REDIS_URL, stop: () => {} };
  const port = await freePort();
  const args = ['--port', `${port}`, '--save', '', '--appendonly', 'no', '--daemonize', 'no'];
  for (const program of ['redis-server', 'valkey-server']) {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const isStarted = await new Promise((resolve) => {
      child.once('error', () => resolve(false));
      child.stdout.on('data', (text) => String(text).includes('Ready to accept') && resolve(true));
      child.once('exit', () => resolve(false));
    });
    if (isStarted) return { url: `redis://127.0.0.1:${port}`, stop: () => child.kill() };
  }
  throw new Error('redis-server must be in the PATH, or REDIS_URL set. Install Redis or Valkey.');
}

/** A port in front of the server. `cut()` resets its connections and refuses new ones until `mend()`. */
export async function proxied(url) {
  const { hostname, port } = new URL(url);
  const open = new Set();
  let isCut = false;
  const server = createServer((client) => {
    if (isCut) return client.destroy();
    const upstream = connect(Number(port || 6379), hostname);
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `redis://127.0.0.1:${server.address().port}`,
    cut() {
      isCut = true;
      for (const socket of open) socket.destroy();
    },
    mend: () => (isCut = false),
    stop: () => server.close(),
  };
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
