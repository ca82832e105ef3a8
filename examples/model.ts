/*
 * The "language model" of the examples: it answers with the paragraph, or the section, of this project's documentation that shares
 * the most words with the prompt, one token at a time. It stops when its signal aborts.
 */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

const TOKEN_INTERVAL_MS = 25;

export async function* complete(
  prompt: unknown,
  signal: AbortSignal,
  unit: 'paragraph' | 'section' = 'paragraph',
): AsyncGenerator<string> {
  let sent = 0;
  const find = unit === 'paragraph' ? paragraphFor : sectionFor;
  try {
    for (const token of (await find(String(prompt))).match(/\s*\S+/g) ?? []) {
      await pause(TOKEN_INTERVAL_MS, undefined, { signal }); // the client library of a real model takes a signal, too
      if (token === process.env.FAIL_AT) throw new Error(`The model fails at ${token}.`);
      sent += 1;
      yield token;
    }
  } finally {
    console.log(signal.aborted ? `stopped after ${sent} tokens: ${signal.reason}` : `finished after ${sent} tokens`);
  }
}

/** Answers with a section instead of a paragraph. */
export const completeSection = (prompt: unknown, signal: AbortSignal): AsyncGenerator<string> =>
  complete(prompt, signal, 'section');

async function paragraphFor(prompt: string): Promise<string> {
  const text = await readFile(process.env.TEXT ?? new URL('../docs/resume.md', import.meta.url), 'utf8');
  return best(prompt, text.split(/\n{2,}/)) ?? text;
}

/** Returns a section of a page that is neither short nor long: for answers that take several seconds. */
async function sectionFor(prompt: string): Promise<string> {
  const docs = new URL('../docs/', import.meta.url);
  const pages = (await readdir(docs)).filter((file) => file.endsWith('.md'));
  const texts = await Promise.all(pages.map((file) => readFile(new URL(file, docs), 'utf8')));
  const sections = texts.flatMap((text) => asAnswer(text).split(/^(?=## )/m));
  return (
    best(
      prompt,
      sections.filter(({ length }) => length > 800 && length < 2500),
    ) ?? ''
  );
}

/** Removes from Markdown what a page would not show: code blocks, pictures, the targets of links, and the line ends inside paragraphs. */
function asAnswer(markdown: string): string {
  return markdown
    .replaceAll(/^```.*?^```$/gms, '')
    .replaceAll(/^!\[.*\n/gm, '')
    .replaceAll(/\[([^\][]+)\]\([^)]+\)/g, '$1')
    .replaceAll(/(?<=[^\n])\n *(?=[^\s#|>-])/g, ' ')
    .replaceAll(/\n{3,}/g, '\n\n');
}

/** Returns the text that shares the most words with the prompt. */
function best(prompt: string, texts: readonly string[]): string | undefined {
  const asked = words(prompt);
  const shared = (text: string): number => [...words(text)].filter((word) => asked.has(word)).length;
  const candidates = texts.filter((text) => words(text).size > 12);
  return candidates.length === 0 ? undefined : candidates.reduce((a, b) => (shared(b) > shared(a) ? b : a));
}

const words = (text: string): Set<string> => new Set(text.toLowerCase().match(/[a-z]{3,}/g));
