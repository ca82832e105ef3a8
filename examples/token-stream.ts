/*
 * A stream of tokens over POST, as language models send it, for clients that read with fetch. The "model" here is a page of
 * this project's documentation: it answers with the paragraph that shares the most words with the prompt. It stops when the
 * client disconnects.
 *
 *   npx tsx examples/token-stream.ts
 *   curl -N -H 'Content-Type: application/json' -d '{"prompt":"what is a reset"}' http://localhost:3000/answers
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { running } from './running.ts';
// #region docs
import express from 'express';
import { sse } from '../lib/index.ts';

// #region readme
const answers = sse(
  async function* (conn, req) {
    for await (const token of complete(req.body.prompt, conn.signal)) yield { event: 'token', data: token };
  },
  { methods: ['POST'], history: false },
);
// #endregion readme
const app = express();
app.use('/answers', express.json(), answers);
// #endregion docs

const TOKEN_INTERVAL_MS = 25;

async function* complete(prompt: unknown, signal: AbortSignal): AsyncGenerator<string> {
  let sent = 0;
  try {
    for (const token of (await paragraphFor(String(prompt))).match(/\s*\S+/g) ?? []) {
      await pause(TOKEN_INTERVAL_MS, undefined, { signal }); // the client library of a real model takes a signal, too
      sent += 1;
      yield token;
    }
  } finally {
    console.log(signal.aborted ? `stopped after ${sent} tokens: ${signal.reason}` : `finished after ${sent} tokens`);
  }
}

async function paragraphFor(prompt: string): Promise<string> {
  const text = await readFile(process.env.TEXT ?? new URL('../docs/resume.md', import.meta.url), 'utf8');
  const asked = words(prompt);
  const shared = (paragraph: string): number => [...words(paragraph)].filter((word) => asked.has(word)).length;
  const paragraphs = text.split(/\n{2,}/).filter((paragraph) => words(paragraph).size > 12);
  return paragraphs.reduce((best, next) => (shared(next) > shared(best) ? next : best), paragraphs[0] ?? text);
}

const words = (text: string): Set<string> => new Set(text.toLowerCase().match(/[a-z]{3,}/g));

await running(app.listen(process.env.PORT ?? 3000), () => answers.close());
