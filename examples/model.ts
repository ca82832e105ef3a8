/*
 * The "language model" of the examples: it answers with the paragraph of this project's documentation that shares the most words
 * with the prompt, one token at a time. It stops when its signal aborts.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

const TOKEN_INTERVAL_MS = 25;

export async function* complete(prompt: unknown, signal: AbortSignal): AsyncGenerator<string> {
  let sent = 0;
  try {
    for (const token of (await paragraphFor(String(prompt))).match(/\s*\S+/g) ?? []) {
      await pause(TOKEN_INTERVAL_MS, undefined, { signal }); // the client library of a real model takes a signal, too
      if (token === process.env.FAIL_AT) throw new Error(`The model fails at ${token}.`);
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
