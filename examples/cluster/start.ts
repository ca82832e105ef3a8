/*
 * Two processes of one machine with one log in a directory. A broadcast in one process reaches the clients of both. A page whose
 * process is killed reconnects to the other process and misses no event.
 *
 *   npm run example:cluster                       http://localhost:3000
 *   EVENTS=./events npm run example:cluster       keeps the log in this directory for the next run
 *   curl -d 'Milk is out' http://localhost:3000/notes
 *   curl -X POST http://localhost:3000/kill       kills one process; so does kill -9
 */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from '../notes-page.ts';
import { sse } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';

if (cluster.isPrimary) runWorkers();
else {
  const events = sse({ history: lmdbJournal(process.env.EVENTS!), retry: 500 });
  await serve(events, process.env.PORT ?? 3000);
}

/** Keeps two workers running, and replaces killed ones, until SIGTERM or SIGINT. */
function runWorkers(): void {
  // Each worker accepts its own connections. By Node's default the primary accepts them and passes them on. If a worker is killed
  // before it receives such a connection, the connection stays open and is never answered, so the page would wait for ever.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const own = process.env.EVENTS === undefined;
  const path = (process.env.EVENTS ??= mkdtempSync(join(tmpdir(), 'events-'))); // the workers inherit it
  let stopping = false;

  const startWorker = (): void => {
    const worker = cluster.fork();
    worker.once('exit', (code, signal) => {
      if (stopping) return;
      console.log(`server ${worker.process.pid} exited (${signal ?? code})`);
      if (signal) startWorker();
      else void stop(1); // the worker has printed the reason
    });
  };
  const stop = async (code: number): Promise<void> => {
    if (stopping) return;
    stopping = true;
    const workers = Object.values(cluster.workers ?? {}) as Worker[];
    await Promise.all(
      workers.map(async (worker) => {
        if (worker.isDead()) return;
        worker.process.kill('SIGTERM');
        await once(worker, 'exit');
      }),
    );
    if (own) rmSync(path, { recursive: true, force: true });
    process.exit(code);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(0));
  startWorker();
  startWorker();
}
