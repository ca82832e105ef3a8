/*
 * The actions of the page: close a connection, and publish a test event if that is enabled.
 * Invariant: an action that fails is answered with a status and a sentence, never with a stack.
 */

import type { Request, Response } from 'express';
import type { Connection } from '../api/connection.ts';
import { describe } from '../errors.ts';
import type { SseRouter } from '../http/router.ts';

/** Returns the handler that closes a connection. After `close` the client reconnects, after `end` it does not. */
export function closeConnection(events: SseRouter) {
  return (req: Request, res: Response): void => {
    const { id, action } = req.params;
    const connection = findConnection(events.connections, id as string);
    if (action !== 'close' && action !== 'end') {
      res.status(404).json({ error: `The action must be close or end; received ${describe(action)}.` });
    } else if (connection === undefined) res.status(404).json({ error: 'This connection is closed already.' });
    else {
      if (action === 'end') connection.end();
      else connection.close();
      res.sendStatus(204);
    }
  };
}

/** Returns the connection with this id; `undefined` if it is not open. */
export function findConnection(connections: ReadonlySet<Connection>, id: string): Connection | undefined {
  for (const connection of connections) if (connection.id === id) return connection;
  return undefined;
}

/** Returns the handler that broadcasts a test event. */
export function publishTestEvent(events: SseRouter) {
  return async (req: Request, res: Response): Promise<void> => {
    const { event, data, to } = (req.body ?? {}) as { event?: unknown; data?: unknown; to?: unknown };
    if (typeof event !== 'string' || typeof data !== 'string' || !isNames(to)) {
      res.status(400).json({
        error: `The body must be { event: string, data: string, to: string[] }, all of which may be empty; received ${describe(req.body)}.`,
      });
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
