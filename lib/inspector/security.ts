/*
 * What keeps other people's pages out: the inspector's own headers, and what a request that changes something must show.
 * Knows Express' requests and responses.
 * Invariants: the page loads nothing from elsewhere and is framed by nobody; no other origin's page acts or reads through it.
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

/** On our own answers only, and in place of what helmet has put there for the application's pages. */
export function ownHeaders(_req: Request, res: Response, next: NextFunction): void {
  res.set({
    'Content-Security-Policy': POLICY,
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
  });
  res.removeHeader('Access-Control-Allow-Origin'); // an application-wide cors() is not meant for this
  next();
}

/** Whether a browser says that another origin's page asks. */
export function isForeign(req: Request): boolean {
  return req.headers.origin !== undefined || req.headers['sec-fetch-site'] !== undefined
    ? !isSameOrigin(req, req.headers.origin)
    : false;
}

const parse: RequestHandler = express.json({ limit: '256kb' });

/** A request that changes something: from our own page, by its script, as JSON, which no form of another site can send. */
export function sameOriginJson(req: Request, res: Response, next: NextFunction): void {
  if (!isSameOrigin(req, req.headers.origin)) {
    res.status(403).json({ error: 'Only the inspector’s own page may do this.' });
  } else if (!req.is('application/json')) {
    res.status(415).json({ error: 'The body is JSON, and says so: Content-Type: application/json.' });
  } else parse(req, res, next);
}
