/*
 * Whether a page of our own asks.
 * Knows Express' requests, as types.
 * Invariant: a browser's own word goes before anything that can be inferred.
 */

import type { Request } from 'express';

/** What a browser says of itself, else whether the page came from the host that Express takes for its own. */
export function isSameOrigin(req: Request, origin: string | undefined): boolean {
  const site = req.headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin';
  if (origin === undefined) return false;
  // Without an application around the router there is nobody who could say what proxy is trusted.
  const app = req.app as Request['app'] | undefined;
  const trusts = app?.get('trust proxy fn') as ((address: string | undefined, hop: number) => boolean) | undefined;
  const forwarded = trusts?.(req.socket.remoteAddress, 0)
    ? req.get('X-Forwarded-Host')?.split(',', 1)[0]?.trim()
    : undefined;
  const host = forwarded ?? req.headers.host;
  try {
    return new URL(origin).host === new URL(`${new URL(origin).protocol}//${host}`).host;
  } catch {
    return false; // 'null', or no origin at all
  }
}
