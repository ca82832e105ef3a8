/*
 * Passes what a function of the application has thrown to Express, so that Express takes it for an error.
 *
 * Invariant: Express answers every such request with an error; none continues to the next handler.
 */

import type { NextFunction } from 'express';
import { invalid } from '../validation/validate.ts';

/**
 * Calls `next` with an error. Express takes `'route'` and `'router'` for commands, and continues after `undefined` and every other
 * value that is false: the request would be answered 404, or by a page for every path, and the error would vanish.
 * @param source What threw or rejected: `the handler`.
 */
export function passError(error: unknown, next: NextFunction, source: string): void {
  if (error && error !== 'route' && error !== 'router') return next(error);
  const cure = 'Throw an Error. To answer the request without a stream, use the response.';
  next(
    invalid(
      `What ${source} throws or rejects with`,
      "an error, which Express' commands 'route' and 'router' are not",
      error,
      { cure, cause: error },
    ),
  );
}
