/*
 * The backend of `useChat`: the messages of each chat, and its newest answer as a run.
 */
import { completeSection as complete } from '../model.ts';
// #region docs
import type { UIMessage, UIMessageChunk } from 'ai';
import type { Request, RequestHandler } from 'express';
import { lmdbRuns } from '../../lib/journal/lmdb/index.ts';
import { runs, uiMessages, type Run, type RunsRouter } from '../../lib/runs/index.ts';

/** The messages of each chat. An application needs a database: after a crash, a Map has the answer's question no longer. */
const saved = new Map<string, UIMessage[]>();

async function* answer(run: Run, req: Request): AsyncGenerator<UIMessageChunk> {
  const messages = req.body.messages as UIMessage[];
  saved.set(run.id, messages); // the question, before the first chunk of its answer
  const messageId = `answer-${messages.length}`; // a page that has saved this answer does not show it twice
  yield { type: 'start', messageId };
  yield { type: 'text-start', id: 'text' };
  let text = '';
  for await (const delta of complete(textOf(messages.at(-1)!), run.signal)) {
    text += delta;
    yield { type: 'text-delta', id: 'text', delta };
  }
  yield { type: 'text-end', id: 'text' };
  yield { type: 'finish' };
  saved.set(run.id, [...messages, { id: messageId, role: 'assistant', parts: [{ type: 'text', text }] }]);
}

/** `useChat` posts to `/chats`, and asks `/chats/<id>/stream` for an answer that is still being written. */
export function makeChats(path: string, lease: number): RunsRouter<UIMessageChunk> {
  return runs(answer, { id: (req) => req.body.id, store: lmdbRuns(path), wire: uiMessages(), lease });
}

/** The messages that the page begins with. */
export const history: RequestHandler = (req, res) => void res.json(saved.get(String(req.params.id)) ?? []);

function textOf({ parts }: UIMessage): string {
  return parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
}
// #endregion docs
