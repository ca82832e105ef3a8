/*
 * What the page can do: end a connection, and publish a test event where that is allowed.
 * Knows the package from outside, and Express.
 * Invariant: what cannot be done is answered with a status and a sentence, never with a stack.
 */

import type { Request, Response } from 'express';
import type { Connection } from '../api/connection.ts';
import type { SseRouter } from '../http/router.ts';

/** `close`: over for now, the client reconnects. `end`: over for good. */
export function act(events: SseRouter) {
  return (req: Request, res: Response): void => {
    const { id, how } = req.params;
    const connection = find(events.connections, id as string);
    if (how !== 'close' && how !== 'end') res.status(404).json({ error: 'There is close, and there is end.' });
    else if (connection === undefined) res.status(404).json({ error: 'This connection is over already.' });
    else {
      if (how === 'end') connection.end();
      else connection.close();
      res.sendStatus(204);
    }
  };
}

export function find(connections: ReadonlySet<Connection>, id: string): Connection | undefined {
  for (const connection of connections) if (connection.id === id) return connection;
  return undefined;
}

export function publishTest(events: SseRouter) {
  return async (req: Request, res: Response): Promise<void> => {
    const { event, data, to } = (req.body ?? {}) as { event?: unknown; data?: unknown; to?: unknown };
    if (typeof event !== 'string' || typeof data !== 'string' || !isNames(to)) {
      res
        .status(400)
        .json({ error: 'A test event is { event: string, data: string, to: string[] }; all may be empty.' });
      return;
    }
    try {
      const id = await events.broadcast(event === '' ? { data } : { event, data }, to.length > 0 ? { to } : {});
      res.status(201).json({ id });
    } catch (error) {
      const { code, message } = error as { code?: string; message?: string };
      res.status(error instanceof TypeError ? 400 : 503).json({ error: message ?? String(error), code });
    }
  };
}

function isNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === 'string' && name !== '');
}
