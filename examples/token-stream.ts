/*
 * A stream of tokens over POST, as language models send it, read with fetch. Here the model is the text of this project:
 * it answers with the paragraph that shares most words with the prompt. When the reader leaves, it stops.
 *
 *   npx tsx examples/token-stream.ts
 *   curl -N -H 'Content-Type: application/json' -d '{"prompt":"what is a reset"}' http://localhost:3000/answers
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { running } from './running.ts';
// #region readme
import express from 'express';
import { sse } from '../lib/index.ts';

const answers = sse(
  async function* (conn, req) {
    for await (const token of complete(req.body.prompt, conn.signal)) yield { event: 'token', data: token };
  },
  { methods: ['POST'], history: false },
);
const app = express();
app.use('/answers', express.json(), answers);
// #endregion

const PACE = 25; // ms a token

async function* complete(prompt: unknown, signal: AbortSignal): AsyncGenerator<string> {
  let made = 0;
  try {
    for (const token of (await paragraphFor(String(prompt))).match(/\s*\S+/g) ?? []) {
      await pause(PACE, undefined, { signal }); // a model's client takes the signal in the same way
      made += 1;
      yield token;
    }
  } finally {
    console.log(signal.aborted ? `stopped after ${made} tokens: ${signal.reason}` : `finished after ${made} tokens`);
  }
}

async function paragraphFor(prompt: string): Promise<string> {
  const text = await readFile(process.env.TEXT ?? new URL('../README.md', import.meta.url), 'utf8');
  const asked = words(prompt);
  const shared = (paragraph: string): number => [...words(paragraph)].filter((word) => asked.has(word)).length;
  const paragraphs = text.split(/\n{2,}/).filter((paragraph) => words(paragraph).size > 12);
  return paragraphs.reduce((best, next) => (shared(next) > shared(best) ? next : best), paragraphs[0] ?? text);
}

const words = (text: string): Set<string> => new Set(text.toLowerCase().match(/[a-z]{3,}/g));

await running(app.listen(process.env.PORT ?? 3000), () => answers.close());
