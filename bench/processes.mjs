// Starts the measured server and the clients, each as a process on a core of its own, and exchanges messages with them.
// Invariant: every process that was started is ended.
import { spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

// With one core, or without taskset (macOS), nothing is pinned. RESULTS.md shows whether it was.
export const pinned = availableParallelism() > 1 && spawnSync('taskset', ['-V']).status === 0;

const running = new Set();

/** Ends the processes that a failed scenario did not end. */
export async function endAll() {
  await Promise.all([...running].map((child) => child.end()));
}

export class Child {
  #process;
  #calls = new Map();
  #next = 1;
  #ended;
  /** Called with each message that is not an answer. */
  onMessage = undefined;

  constructor(script, { core, args = [], nodeArgs = [] } = {}) {
    const command = [
      process.execPath,
      '--expose-gc',
      ...nodeArgs,
      fileURLToPath(new URL(script, import.meta.url)),
      ...args,
    ];
    if (pinned && core !== undefined) command.unshift('taskset', '-c', String(core));
    this.#process = spawn(command[0], command.slice(1), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, NODE_ENV: 'production' },
    });
    this.#process.on('message', (message) => this.#receive(message));
    this.#ended = new Promise((resolve) => {
      this.#process.on('exit', (code, signal) => {
        running.delete(this);
        for (const { reject } of this.#calls.values())
          reject(new Error(`${script} ended (${signal ?? code}) during a call`));
        this.#calls.clear();
        resolve();
      });
    });
    running.add(this);
  }

  call(name, args = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#calls.set(id, { resolve, reject });
      this.#process.send({ id, name, args });
    });
  }

  /** Sends a command without an answer. */
  notify(name, args = {}) {
    if (this.#process.connected) this.#process.send({ name, args });
  }

  /** Sends SIGKILL. Resolves when the process has ended. */
  kill() {
    this.#process.kill('SIGKILL');
    return this.#ended;
  }

  async end() {
    // Node writes the CPU profile only if the process exits by itself.
    this.notify('exit');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    await this.#ended;
    clearTimeout(timer);
  }

  #receive(message) {
    const call = this.#calls.get(message.id);
    if (call === undefined) return this.onMessage?.(message);
    this.#calls.delete(message.id);
    if (message.error === undefined) call.resolve(message.result);
    else call.reject(new Error(message.error));
  }
}

/** Runs in the child process: answers each call with the result of `commands[name](args)`. */
export function answer(commands) {
  process.on('message', async ({ id, name, args }) => {
    if (name === 'exit') process.exit(0);
    try {
      const result = await commands[name](args);
      if (id !== undefined) process.send({ id, result });
    } catch (error) {
      process.send({ id, error: error.stack });
    }
  });
  process.on('disconnect', () => process.exit(1));
}
