/*
 * An endpoint for clients of OpenAI's Chat Completions: the official packages, and every tool with a setting for a base URL.
 *
 *   npx tsx examples/openai-endpoint.ts
 *   OPENAI_BASE_URL=http://localhost:3000/v1 OPENAI_API_KEY=any node my-client.js
 */
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const completions = sse(
  async function* (conn, req) {
    const { model, messages } = req.body;
    const shared = { id: conn.id, object: 'chat.completion.chunk', created: Math.floor(Date.now() / 1000), model };
    const chunk = (delta: object, finish_reason: string | null = null) => ({
      data: { ...shared, choices: [{ index: 0, delta, finish_reason }] },
    });
    yield chunk({ role: 'assistant', content: '' });
    for await (const content of complete(messages.at(-1).content, conn.signal)) yield chunk({ content });
    yield chunk({}, 'stop');
    yield '[DONE]';
  },
  { methods: ['POST'], history: false },
);
const app = express();
app.use('/v1/chat/completions', express.json({ limit: '10mb' }), completions);
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => completions.close());
