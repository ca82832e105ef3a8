/*
 * A worker produces the answers, and any number of web processes serve them. The queue is a list in Redis.
 *
 *   npx tsx examples/runs-worker.ts            serves, and works: an application has two programs
 *   curl -i -H 'Content-Type: application/json' -d '{"prompt":"what is a reset"}' http://localhost:3000/answers
 *   curl -N http://localhost:3000/answers/<id>
 */
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import express from 'express';
import { createClient } from 'redis';
import { redisRuns } from '../lib/journal/redis/index.ts';
import { runs, type RunsRouter } from '../lib/runs/index.ts';

const client = await createClient({ url: process.env.REDIS_URL }).connect();
const answers: RunsRouter<string> = runs(() => [], { store: redisRuns(client) });

/** The worker: one job after the other. */
async function work(): Promise<void> {
  const jobs = await client.duplicate().connect();
  for (;;) {
    const job = await jobs.brPop('jobs', 0);
    const { id, prompt } = JSON.parse(job!.element) as { id: string; prompt: string };
    await answers.start(id, (run) => complete(prompt, run.signal)); // resolves when the run has begun
    for await (const { type } of answers.follow(id)) if (type === 'end') break;
  }
}

/** The web process: a client that asked before the worker has begun would get a 204, and not ask again. */
const app = express();
app.post('/answers', express.json(), async (req, res) => {
  const id = randomUUID();
  await client.lPush('jobs', JSON.stringify({ id, prompt: req.body.prompt }));
  while ((await answers.status(id)) === undefined) await pause(50);
  res.status(202).location(`/answers/${id}`).json({ id });
});
app.use('/answers', answers);
// #endregion docs

void work();
await running(app.listen(process.env.PORT ?? 3000), async () => {
  await answers.close({ wait: 10_000 });
  process.exit(0);
});
