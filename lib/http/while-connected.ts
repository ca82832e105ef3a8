/*
 * Waits on behalf of a request.
 * Invariant: nothing is kept for a client that has disconnected.
 */

import type { Request, Response } from 'express';
import { offResponseClosed, onResponseClosed } from '../wire/response-transport.ts';

/** The reason of the signal of a client that has disconnected. */
const CLIENT_DISCONNECTED = new Error('The client has disconnected.');

/** Whether the client of a request has disconnected. Its 'close' event is not emitted again. */
export function isDisconnected(req: Request, res: Response): boolean {
  return res.destroyed || req.socket.destroyed;
}

/** Whether an error is the reason that {@link whileConnected} gives. */
export function isDisconnection(error: unknown): boolean {
  return error === CLIENT_DISCONNECTED;
}

/** Calls `wait` with the signal of the controller, which aborts when the client disconnects. */
export async function whileConnected<T>(
  req: Request,
  res: Response,
  controller: AbortController,
  wait: (departed: AbortSignal) => Promise<T>,
): Promise<T> {
  const onClosed = (): void => controller.abort(CLIENT_DISCONNECTED);
  if (isDisconnected(req, res)) onClosed();
  onResponseClosed(res, req.socket, onClosed);
  try {
    return await wait(controller.signal);
  } finally {
    offResponseClosed(res, req.socket, onClosed);
  }
}
