/*
 * A router of runs in an app on a free port, and a producer that the test controls.
 */
import express, { type Express } from 'express';
import { runs, type Producer, type RunsOptions, type RunsRouter } from '../../lib/runs/index.ts';
import { connect, type ConnectOptions, type TestStream } from '../../lib/testing/index.ts';
import { ask, clock, pause, serve, type Init, type Site } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';

/** One call of a producer. */
export interface Model {
  readonly id: string;
  readonly signal: AbortSignal;
  /** Yields chunks. */
  emit(...chunks: unknown[]): void;
  /** Ends the answer. */
  finish(): void;
  fail(error: unknown): void;
}

/** A producer whose answers the test writes. */
export class Models {
  /** In the order of their calls. */
  readonly calls: Model[] = [];
  readonly produce: Producer<any> = (run) => {
    const waiting: (() => unknown)[] = [];
    let wake = (): void => {};
    const add = (what: () => unknown): void => {
      waiting.push(what);
      wake();
    };
    const model: Model = {
      id: run.id,
      signal: run.signal,
      emit: (...chunks) => chunks.forEach((chunk) => add(() => chunk)),
      finish: () => add(() => END),
      fail: (error) =>
        add(() => {
          throw error;
        }),
    };
    this.calls.push(model);
    return (async function* () {
      for (;;) {
        while (waiting.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        const chunk = waiting.shift()!();
        if (chunk === END) return;
        yield chunk;
      }
    })();
  };

  /** The newest call. */
  get last(): Model {
    return this.calls.at(-1)!;
  }
}

const END = Symbol('end');

export interface RunsSite extends Site {
  readonly chat: RunsRouter<any>;
  readonly models: Models;
  /** Sends a request below the mount path, and returns the complete answer. */
  readonly ask: (path: string, init?: Init) => ReturnType<typeof ask>;
  /** Opens a stream below the mount path. */
  readonly open: (path: string, how?: ConnectOptions) => Promise<TestStream>;
  /** Posts, and opens the stream of the run. */
  readonly post: (id: string, how?: ConnectOptions) => Promise<TestStream>;
}

/** A site whose run ids are `body.id`, at `/chat`. */
export async function site(
  options: RunsOptions<any> = {},
  mount: (app: Express, chat: RunsRouter<any>) => void = (app, chat) => void app.use('/chat', express.json(), chat),
): Promise<RunsSite> {
  const models = new Models();
  const chat = runs(models.produce, {
    id: (req) => (req.body as { id: string }).id,
    heartbeat: false,
    batch: 0,
    ...options,
  });
  later(() => chat.close());
  const made = await serve((app) => mount(app, chat));
  const open = async (path: string, how: ConnectOptions = {}): Promise<TestStream> => {
    const stream = await connect(`${made.url}/chat${path}`, undefined, { timeout: 5000, ...how });
    later(() => stream.close());
    return stream;
  };
  return {
    ...made,
    chat,
    models,
    ask: (path, init) => ask(`${made.url}/chat${path}`, init),
    open,
    post: (id, how) => open('', { body: { id }, ...how }),
  };
}

/** Waits until a condition that must be asked for is true. */
export async function until(isMet: () => Promise<boolean>, ms = 3000): Promise<void> {
  for (const end = clock() + ms; !(await isMet()); await pause(5)) {
    if (clock() > end) throw new Error(`Not within ${ms} ms: ${String(isMet)}`);
  }
}
