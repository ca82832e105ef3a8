/*
 * Two processes of one machine, one log in a directory: what is said to one is heard in both, and a page whose server is killed
 * goes on at the other without a gap.
 *
 *   npm run example:cluster                       http://localhost:3000
 *   EVENTS=./events npm run example:cluster       a log that is still there next time
 *   curl -d 'Milk is out' http://localhost:3000/notes
 *   curl -X POST http://localhost:3000/kill       or kill -9 one yourself
 */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from '../notes-page.ts';
// #region readme
import { sse } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';

if (cluster.isPrimary) lead();
else {
  const events = sse({ history: lmdbJournal(process.env.EVENTS!), retry: 500 });
  await serve(events, process.env.PORT ?? 3000);
}
// #endregion

/** Keeps two workers, whoever kills them, until it is told to leave. */
function lead(): void {
  // Each worker accepts for itself. By Node's default the primary hands connections over, and what it has handed to a worker
  // that is killed before it takes it stays open and is never answered: the page would wait for ever.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const own = process.env.EVENTS === undefined;
  const path = (process.env.EVENTS ??= mkdtempSync(join(tmpdir(), 'events-'))); // the workers inherit it
  let leaving = false;

  const hire = (): void => {
    const worker = cluster.fork();
    worker.once('exit', (code, signal) => {
      if (leaving) return;
      console.log(`server ${worker.process.pid} is gone (${signal ?? code})`);
      if (signal) hire();
      else void leave(1); // it has said why
    });
  };
  const leave = async (code: number): Promise<void> => {
    if (leaving) return;
    leaving = true;
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
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void leave(0));
  hire();
  hire();
}
