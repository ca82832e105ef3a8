/*
 * A page that shows what is going on in a router: mount it behind your own authorisation.
 * Knows Express, the package from outside, and the insight that a router leaves to this package's own tools.
 * Invariants: who looks changes nothing and reads no secrets; while nobody looks nothing runs.
 */

import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { boolean, rejectUnknownKeys, invalid } from '../validation/validate.ts';
import type { AnyEvents, EventMap } from '../api/message.ts';
import { sse, type SseRouter } from '../http/router.ts';
import { INTROSPECT, type Introspection } from '../diagnostics/channels.ts';
import { act, publishTest } from './actions.ts';
import { ASSETS } from './assets/index.ts';
import { isForeign, ownHeaders, sameOriginJson } from './security.ts';
import { viewOf } from './view-query.ts';
import { Watch } from './viewers.ts';

/** What the page may do besides looking. */
export interface InspectorOptions {
  /** Whether it has a form that broadcasts a test event to real clients. @defaultValue `false` */
  publish?: boolean;
}

/**
 * Makes the page: connections, rates, queues, the journal, the last events; and a way to end a connection.
 * @example
 * ```ts
 * app.use('/_events', requireAdmin, inspector(events));
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` at once, for what is not a router and for options that cannot be meant.
 */
export function inspector<E extends EventMap = AnyEvents>(
  router: SseRouter<E>,
  options: InspectorOptions = {},
): Router {
  const { events, insight, publish } = checkCall(router, options);
  const watch = new Watch(events, insight, publish);
  const feed = sse((conn, req) => watch.enter(conn, viewOf(req)), { history: false, retry: { min: 1000, max: 2000 } });
  watch.onClosing = () => void feed.close();

  const page = express.Router();
  for (const [path, { type, text }] of Object.entries(ASSETS)) {
    page.get(path, ownHeaders, (req, res) => {
      if (path === '/' && isBare(req)) res.redirect(308, withSlash(req));
      else res.set('Cache-Control', 'no-cache').type(type).send(text);
    });
  }
  page.use('/feed', ownHeaders, (req, res, next) => (isForeign(req) ? res.sendStatus(403) : feed(req, res, next)));
  page.post('/connections/:id/:how', ownHeaders, sameOriginJson, act(events));
  if (publish) page.post('/publish', ownHeaders, sameOriginJson, publishTest(events));
  page.use(tellClient);
  return page;
}

/** Relative addresses need the slash: /_events is answered with /_events/, wherever that is, also behind a proxy's prefix. */
function isBare(req: Request): boolean {
  return !req.originalUrl.split('?', 1)[0]!.endsWith('/');
}

function withSlash(req: Request): string {
  const [path, query] = req.originalUrl.split('?', 2) as [string, string?];
  return `./${path.slice(path.lastIndexOf('/') + 1)}/${query === undefined ? '' : `?${query}`}`;
}

/** What is wrong with a body is told to the page; everything else is the application's. */
function tellClient(
  error: { status?: number; message?: string },
  _req: Request,
  res: Response,
  next: NextFunction,
): void {
  if (res.headersSent || error?.status === undefined || error.status < 400 || error.status > 499) return next(error);
  res.status(error.status).json({ error: error.message });
}

function checkCall(events: unknown, options: unknown): { events: SseRouter; insight: Introspection; publish: boolean } {
  const insight = (events as { [INTROSPECT]?: Introspection } | null | undefined)?.[INTROSPECT];
  if (insight === undefined) throw invalid('inspector(events): events', 'a router that sse() has made', events);
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalid('inspector(events, options): options', 'an object such as { publish: true }', options);
  }
  rejectUnknownKeys('option of inspector()', options, { publish: true });
  return { events: events as SseRouter, insight, publish: boolean('publish', (options as InspectorOptions).publish) };
}
