/*
 * Decides whether a request comes from a page of the router's own origin.
 *
 * Invariant: what the browser states in `Sec-Fetch-Site` has priority over everything that is inferred.
 */

import type { Request } from 'express';

/** Whether a request has the same origin: by `Sec-Fetch-Site` or, without it, because `origin` has the host of the request. */
export function isSameOrigin(req: Request, origin: string | undefined): boolean {
  const site = req.headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin';
  if (origin === undefined) return false;
  // A router without an Express application has no setting `trust proxy`, so no proxy is trusted.
  const app = req.app as Request['app'] | undefined;
  const trustsProxy = app?.get('trust proxy fn') as ((address: string | undefined, hop: number) => boolean) | undefined;
  const forwardedHost = trustsProxy?.(req.socket.remoteAddress, 0)
    ? req.get('X-Forwarded-Host')?.split(',', 1)[0]?.trim()
    : undefined;
  const host = forwardedHost ?? req.headers.host;
  try {
    return new URL(origin).host === new URL(`${new URL(origin).protocol}//${host}`).host;
  } catch {
    return false; // the origin is 'null' or not a URL
  }
}
