/*
 * A backend for `useChat` of the AI SDK, which posts the messages to /api/chat and reads a UI message stream.
 *
 *   npx tsx examples/use-chat.ts
 */
import { complete } from './model.ts';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

const chat = sse(
  async function* (conn, req) {
    const prompt = req.body.messages
      .at(-1)
      .parts.map((part: { text?: string }) => part.text ?? '')
      .join('');
    yield { data: { type: 'start', messageId: conn.id } };
    yield { data: { type: 'text-start', id: 'text' } };
    for await (const delta of complete(prompt, conn.signal)) yield { data: { type: 'text-delta', id: 'text', delta } };
    yield { data: { type: 'text-end', id: 'text' } };
    yield { data: { type: 'finish' } };
    yield '[DONE]';
  },
  { methods: ['POST'], history: false, headers: { 'x-vercel-ai-ui-message-stream': 'v1' } },
);
const app = express();
app.use('/api/chat', express.json({ limit: '10mb' }), chat);
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => chat.close());
