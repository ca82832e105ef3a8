/*
 * Protects the inspector from pages of other origins: its response headers, and the checks of a request that changes something.
 * Invariants: the page loads nothing from another origin, and no page can frame it; a page of another origin can neither read nor act
 * through it.
 */

import express, { type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import { isSameOrigin } from '../http/same-origin.ts';

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Sets the headers of the inspector's own responses, in place of those that helmet has set for the application's pages. */
export function setSecurityHeaders(_req: Request, res: Response, next: NextFunction): void {
  res.set({
    'Cache-Control': 'no-store', // the files of the page and the feed replace it
    'Content-Security-Policy': POLICY,
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
  });
  res.removeHeader('Access-Control-Allow-Origin'); // a cors() of the whole application is not meant for this page
  next();
}

/** Whether the request comes from a page of another origin, by the headers that a browser sends. */
export function isCrossOrigin(req: Request): boolean {
  return req.headers.origin !== undefined || req.headers['sec-fetch-site'] !== undefined
    ? !isSameOrigin(req, req.headers.origin)
    : false;
}

const parseJson: RequestHandler = express.json({ limit: '256kb' });

/** Accepts a request that changes something only from the inspector's own page, and only as JSON, which no form of another site can send. */
export function requireSameOriginJson(req: Request, res: Response, next: NextFunction): void {
  if (!isSameOrigin(req, req.headers.origin)) {
    res.status(403).json({ error: 'Only the inspector’s own page may do this.' });
  } else if (!req.is('application/json')) {
    res.status(415).json({ error: 'The body must be JSON with Content-Type: application/json.' });
  } else parseJson(req, res, next);
}
