/*
 * An endpoint for clients of OpenAI's Chat Completions whose answers can be read again: a request with the same Idempotency-Key joins
 * the running answer, and GET with the value of X-Run-Id reads it from its beginning.
 *
 *   npx tsx examples/runs-openai.ts
 *   OPENAI_BASE_URL=http://localhost:3000/v1 OPENAI_API_KEY=any node my-client.js
 */
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import { randomUUID } from 'node:crypto';
import express, { type Request } from 'express';
import { openai, runs, type Run } from '../lib/runs/index.ts';

async function* completion(run: Run, req: Request) {
  const { model, messages } = req.body;
  const shared = { id: run.id, object: 'chat.completion.chunk', created: Math.floor(Date.now() / 1000), model };
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    ...shared,
    choices: [{ index: 0, delta, finish_reason }],
  });
  yield chunk({ role: 'assistant', content: '' });
  for await (const content of complete(messages.at(-1).content, run.signal)) yield chunk({ content });
  yield chunk({}, 'stop');
}

const completions = runs(completion, {
  id: (req) => req.get('Idempotency-Key') ?? randomUUID(),
  wire: openai(),
});
const app = express();
app.use('/v1/chat/completions', express.json({ limit: '10mb' }), completions);
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => completions.close({ wait: 10_000 }));
