/*
 * Runs an example as a process of its own, and reads its streams with fetch and EventSource.
 * It does not import the package, so the tests see what a reader of the documentation sees.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { EventSource } from 'eventsource';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { TYPESCRIPT } from '../fixtures/typescript.ts';

const root = join(__dirname, '../..');
const started = new Set<ChildProcess>();
const opened = new Set<() => void>();

export interface Running {
  url: string;
  output(): string;
  /** Resolves with the match once the process has written it. */
  prints(what: RegExp): Promise<RegExpExecArray>;
  /** Sends SIGTERM and waits for the exit. Resolves with the exit code and the time that it took. */
  stop(): Promise<{ code: number | null; ms: number }>;
  /** Sends SIGKILL and waits for the exit. */
  kill(): Promise<void>;
}

/** Starts an example, in the folder of the repository unless `cwd` is another one. */
export async function start(file: string, env: Record<string, string> = {}, cwd = root): Promise<Running> {
  const child = launch(file, { PORT: '0', ...env }, cwd);
  const { prints, output } = follow(child);
  const [, url] = await prints(/listening on (http:\S+)/);
  return {
    url: url!,
    output,
    prints,
    async stop() {
      const since = Date.now();
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
      return { code: child.exitCode, ms: Date.now() - since };
    },
    async kill() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/**
 * Returns a free port for a server that must keep its port: a cluster on port 0 gets another port after all its workers died at
 * once. The port is below 32768, where the range begins from which the system assigns ports to other sockets.
 */
export async function keptPort(): Promise<string> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const probe = createServer().listen(port, '127.0.0.1');
    const isFree = await once(probe, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    probe.close();
    await once(probe, 'close');
    return String(port);
  }
}

/** Runs an example until it exits. Resolves with its exit code and its whole output. */
export async function run(file: string, env: Record<string, string>): Promise<{ code: number | null; output: string }> {
  const child = launch(file, env);
  const { output } = follow(child);
  await once(child, 'close');
  return { code: child.exitCode, output: output() };
}

function launch(file: string, env: Record<string, string>, cwd = root): ChildProcess {
  const child = spawn(process.execPath, [...TYPESCRIPT, join(root, 'examples', file)], {
    cwd,
    env: { ...process.env, ...env },
  });
  started.add(child);
  child.once('exit', () => started.delete(child));
  return child;
}

function follow(child: ChildProcess) {
  let text = '';
  const waiting = new Set<() => void>();
  const append = (chunk?: string): void => {
    text += chunk ?? '';
    for (const check of waiting) check();
  };
  child.stdout!.setEncoding('utf8').on('data', append);
  child.stderr!.setEncoding('utf8').on('data', append);
  child.once('close', () => append());
  const prints = (what: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const found = what.exec(text);
        if (found) resolve(found);
        else if (child.exitCode !== null) reject(new Error(`ended with ${child.exitCode}, before ${what}:\n${text}`));
        else return;
        waiting.delete(check);
      };
      waiting.add(check);
      check();
    });
  return { prints, output: () => text };
}

export interface Seen {
  event: string;
  data: string;
  id: string;
}

/** Reads a response: `next()` resolves with the next event, and with `undefined` after the end of the stream. */
export async function read(url: string, init: RequestInit = {}) {
  const abort = new AbortController();
  const disconnect = (): void => abort.abort();
  opened.add(disconnect);
  const response = await fetch(url, { ...init, signal: abort.signal });
  const events = response.body?.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = events?.getReader();
  const next = async (): Promise<Seen | undefined> => {
    const { value } = (await reader?.read()) ?? {};
    return value && { event: value.event ?? 'message', data: value.data, id: value.id ?? '' };
  };
  return { response, next, disconnect };
}

/** Connects an `EventSource`: `next()` resolves with the next event that has one of these names. */
export function listen(url: string, names: readonly string[], headers: Record<string, string> = {}) {
  const source = new EventSource(url, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init?.headers, ...headers } }),
  });
  opened.add(() => source.close());
  const seen: Seen[] = [];
  const waiters: Array<(one: Seen) => void> = [];
  for (const name of names) {
    source.addEventListener(name, ({ data, lastEventId }: MessageEvent) => {
      const one = { event: name, data: data as string, id: lastEventId };
      const waiter = waiters.shift();
      if (waiter) waiter(one);
      else seen.push(one);
    });
  }
  const next = (): Promise<Seen> => {
    const one = seen.shift();
    return one ? Promise.resolve(one) : new Promise((resolve) => waiters.push(resolve));
  };
  const opening = new Promise<void>((resolve) => source.addEventListener('open', () => resolve(), { once: true }));
  const cut = () => new Promise<void>((resolve) => source.addEventListener('error', () => resolve(), { once: true }));
  return { source, next, opening, cut, waiting: seen };
}

export const post = (url: string, body: unknown, headers: Record<string, string> = {}, method = 'POST') =>
  fetch(url, { method, headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body) });

/** For `afterEach`: closes every stream and kills every process, whatever the test has done. */
export function clear(): void {
  for (const disconnect of opened) disconnect();
  opened.clear();
  for (const child of started) child.kill('SIGKILL');
}
