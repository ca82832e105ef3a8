/*
 * One of several servers that produce and serve runs. processes.ts runs it as a process of its own, stops it and kills it.
 * It ends when its parent ends.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { redisRuns } from '../../../lib/journal/redis/index.ts';
import { runs } from '../../../lib/runs/index.ts';
import { kinds } from '../../fixtures/redis-clients.ts';

/** The number of replies of Redis that a probe waits for, one after another: those of a join, or of an expired lease until its end. */
const REDIS_ROUND_TRIPS = 4;

/** The settings of a server, as JSON in argv[2]. */
export interface Spec {
  readonly kind: string;
  readonly url: string;
  /** No other process has it, and no earlier process of this server. Each chunk contains it. */
  readonly name: string;
  /** 0 for any free port. */
  readonly port: number;
  readonly lease: number;
}

export type ToServer = 'figures';
export type FromServer =
  | { readonly listening: number }
  /** An error that the router has reported. */
  | { readonly reported: string }
  /** The number of runs that it produces, and of generators that have not ended. */
  | { readonly figures: { readonly running: number; readonly generators: number } };

const spec = JSON.parse(process.argv[2]!) as Spec;
const send = (message: FromServer): void => void process.send?.(message);
process.on('disconnect', () => process.exit());

let [started, generators] = [0, 0];

/** A chunk is `<process>.<number of the run there> <number of the chunk>/<their number> <filling>`. */
async function* produce({ signal }: { readonly signal: AbortSignal }): AsyncGenerator<string> {
  const token = `${spec.name}.${++started}`;
  const length = 20 + Math.floor(Math.random() * 150);
  generators++;
  try {
    for (let n = 1; n <= length; n++) {
      await sleep(Math.random() * 40, undefined, { signal });
      yield `${token} ${n}/${length} ${'x'.repeat(Math.floor(Math.random() * 100))}`;
    }
  } finally {
    generators--;
  }
}

const app = await kinds.find(({ name }) => name === spec.kind)!.make(spec.url);
const answers = runs(produce, {
  id: (req) => String(req.query['id']),
  store: redisRuns(app.client),
  lease: spec.lease,
  keep: 600_000,
  heartbeat: 1_000,
  onError: (error) => send({ reported: `${new Date().toISOString()} ${String(error).slice(0, 200)}` }),
});

process.on('message', (command: ToServer) => {
  if (command === 'figures') send({ figures: { running: answers.stats().runs.running, generators } });
});

// What a request to this process costs on this machine at this time, without the runs: a join asks Redis about as often.
const probe = express.Router().get('/', async (_, res) => {
  for (let i = 0; i < REDIS_ROUND_TRIPS; i++) await app.command('PING');
  res.end();
});

const server = createServer(express().use('/runs', answers).use('/probe', probe));
server.listen(spec.port, '127.0.0.1', () => send({ listening: (server.address() as AddressInfo).port }));
