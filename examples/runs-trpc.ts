/*
 * A subscription of tRPC that reads a run. A client that reconnects sends the id of the last chunk that it received.
 *
 *   npx tsx examples/runs-trpc.ts
 *   curl -H 'Content-Type: application/json' -d '{"id":"a1","prompt":"what is a reset"}' http://localhost:3000/trpc/ask
 *   curl -N 'http://localhost:3000/trpc/answer?input=%7B%22id%22%3A%22a1%22%7D'
 */
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import { initTRPC, tracked } from '@trpc/server';
import { createExpressMiddleware } from '@trpc/server/adapters/express';
import express from 'express';
import { runs, type RunsRouter } from '../lib/runs/index.ts';

const answers: RunsRouter<string> = runs(() => []); // the procedures start and follow the runs; the router itself is not mounted
const t = initTRPC.create();
const question = (value: unknown) => value as { id: string; prompt: string };
const position = (value: unknown) => value as { id: string; lastEventId?: string };

const api = t.router({
  ask: t.procedure
    .input(question)
    .mutation(({ input: { id, prompt } }) => answers.start(id, (run) => complete(prompt, run.signal))),
  answer: t.procedure.input(position).subscription(async function* ({ input: { id, lastEventId }, signal }) {
    for await (const event of answers.follow(id, { after: lastEventId || undefined, signal })) {
      if (event.type === 'chunk') yield tracked(event.id, { token: event.chunk });
      else yield tracked(event.id, { status: event.status });
    }
  }),
});

const app = express();
app.use('/trpc', createExpressMiddleware({ router: api }));
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => answers.close({ wait: 10_000 }));
