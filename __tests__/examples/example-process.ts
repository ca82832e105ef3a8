/*
 * For the tests of the examples: an example as a process of its own, and its streams as fetch and EventSource read them.
 * Knows nothing of the package: what is tested here is what a reader of the README would see.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { EventSource } from 'eventsource';
import { EventSourceParserStream } from 'eventsource-parser/stream';

const root = join(__dirname, '../..');
const started = new Set<ChildProcess>();
const opened = new Set<() => void>();

export interface Running {
  url: string;
  output(): string;
  /** Settles with the match once the process has written it. */
  says(what: RegExp): Promise<RegExpExecArray>;
  /** Tells it to leave, and waits until it has: its exit code and how long it took. */
  stop(): Promise<{ code: number | null; ms: number }>;
}

export async function start(file: string, env: Record<string, string> = {}): Promise<Running> {
  const child = launch(file, { PORT: '0', ...env });
  const { says, output } = follow(child);
  const [, url] = await says(/listening on (http:\S+)/);
  return {
    url: url!,
    output,
    says,
    async stop() {
      const since = Date.now();
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
      return { code: child.exitCode, ms: Date.now() - since };
    },
  };
}

/**
 * A free port for who must come back to it: a cluster on port 0 takes another one after all its workers have died at once.
 * It is none of those that the system gives to others meanwhile, which begin at 32768.
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

/** Starts it without expecting that it stays: its exit code and all that it wrote. */
export async function run(file: string, env: Record<string, string>): Promise<{ code: number | null; output: string }> {
  const child = launch(file, env);
  const { output } = follow(child);
  await once(child, 'close');
  return { code: child.exitCode, output: output() };
}

function launch(file: string, env: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, ['--import', 'tsx', join('examples', file)], {
    cwd: root,
    env: { ...process.env, ...env },
  });
  started.add(child);
  child.once('exit', () => started.delete(child));
  return child;
}

function follow(child: ChildProcess) {
  let text = '';
  const waiting = new Set<() => void>();
  const more = (chunk?: string): void => {
    text += chunk ?? '';
    for (const look of waiting) look();
  };
  child.stdout!.setEncoding('utf8').on('data', more);
  child.stderr!.setEncoding('utf8').on('data', more);
  child.once('close', () => more());
  const says = (what: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = what.exec(text);
        if (found) resolve(found);
        else if (child.exitCode !== null) reject(new Error(`ended with ${child.exitCode}, before ${what}:\n${text}`));
        else return;
        waiting.delete(look);
      };
      waiting.add(look);
      look();
    });
  return { says, output: () => text };
}

export interface Seen {
  event: string;
  data: string;
  id: string;
}

/** The events of a response, one after another; `undefined` when the stream has ended. */
export async function read(url: string, init: RequestInit = {}) {
  const leaving = new AbortController();
  const leave = (): void => leaving.abort();
  opened.add(leave);
  const response = await fetch(url, { ...init, signal: leaving.signal });
  const events = response.body?.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = events?.getReader();
  const next = async (): Promise<Seen | undefined> => {
    const { value } = (await reader?.read()) ?? {};
    return value && { event: value.event ?? 'message', data: value.data, id: value.id ?? '' };
  };
  return { response, next, leave };
}

/** The named events that an `EventSource` gets, to be taken one after another. */
export function listen(url: string, names: readonly string[], headers: Record<string, string> = {}) {
  const source = new EventSource(url, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init?.headers, ...headers } }),
  });
  opened.add(() => source.close());
  const seen: Seen[] = [];
  const takers: Array<(one: Seen) => void> = [];
  for (const name of names) {
    source.addEventListener(name, ({ data, lastEventId }: MessageEvent) => {
      const one = { event: name, data: data as string, id: lastEventId };
      const taker = takers.shift();
      if (taker) taker(one);
      else seen.push(one);
    });
  }
  const next = (): Promise<Seen> => {
    const one = seen.shift();
    return one ? Promise.resolve(one) : new Promise((resolve) => takers.push(resolve));
  };
  const opening = new Promise<void>((resolve) => source.addEventListener('open', () => resolve(), { once: true }));
  const cut = () => new Promise<void>((resolve) => source.addEventListener('error', () => resolve(), { once: true }));
  return { source, next, opening, cut, waiting: seen };
}

export const post = (url: string, body: unknown, headers: Record<string, string> = {}, method = 'POST') =>
  fetch(url, { method, headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body) });

/** For `afterEach`: nothing stays behind, whatever a test has done. */
export function clear(): void {
  for (const leave of opened) leave();
  opened.clear();
  for (const child of started) child.kill('SIGKILL');
}
