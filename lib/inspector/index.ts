/*
 * A page that shows the state of a router. Applications mount it behind their own authorisation.
 * Invariants: viewing changes nothing and shows no secrets; without viewers nothing runs.
 */

import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { boolean, rejectUnknownKeys, invalid } from '../validation/validate.ts';
import type { AnyEvents, EventMap } from '../api/message.ts';
import { preventStoring } from '../http/responses.ts';
import { sse, type SseRouter } from '../http/router.ts';
import type { RunsRouter } from '../runs/api.ts';
import { INTROSPECT, type Introspection } from '../diagnostics/channels.ts';
import { closeConnection, publishTestEvent } from './actions.ts';
import { ASSETS } from './assets/index.ts';
import { isCrossOrigin, requireSameOriginJson, setSecurityHeaders } from './security.ts';
import { viewOf } from './view-query.ts';
import { Viewers } from './viewers.ts';

/** What the page can do besides showing the router. */
export interface InspectorOptions {
  /** Whether the page has a form that broadcasts a test event to real clients. @defaultValue `false` */
  publish?: boolean;
}

/**
 * Returns a router that serves the page: connections, rates, queues, the journal, the last events; and a way to close a connection.
 * @example
 * ```ts
 * app.use('/_events', requireAdmin, inspector(events));
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` at once, if the argument is not a router of this package or an option is not valid.
 */
export function inspector<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  router: SseRouter<E, S> | RunsRouter<unknown>,
  options: InspectorOptions = {},
): Router {
  const { events, introspection, publish } = checkArguments(router, options);
  const viewers = new Viewers(events, introspection, publish);
  const feed = sse((conn, req) => viewers.add(conn, viewOf(req)), {
    history: false,
    retry: { min: 1000, max: 2000 },
  });
  viewers.onRouterClosed = () => void feed.close();

  const page = express.Router();
  for (const [path, { type, text }] of Object.entries(ASSETS)) {
    page.get(path, setSecurityHeaders, (req, res) => {
      if (path === '/' && lacksSlash(req)) res.redirect(308, withSlash(req));
      else res.set('Cache-Control', 'no-cache').type(type).send(text);
    });
  }
  page.use('/feed', setSecurityHeaders, (req, res, next) =>
    isCrossOrigin(req) ? res.sendStatus(403) : feed(req, res, next),
  );
  page.post('/connections/:id/:action', setSecurityHeaders, requireSameOriginJson, closeConnection(events));
  if (publish) page.post('/publish', setSecurityHeaders, requireSameOriginJson, publishTestEvent(events));
  page.use(answerClientError);
  return page;
}

/**
 * Whether the address of the page lacks the slash that its relative addresses need. `/_events` is redirected to `/_events/`,
 * with a relative location that is right behind the prefix of a proxy too.
 */
function lacksSlash(req: Request): boolean {
  return !req.originalUrl.split('?', 1)[0]!.endsWith('/');
}

function withSlash(req: Request): string {
  const [path, query] = req.originalUrl.split('?', 2) as [string, string?];
  return `./${path.slice(path.lastIndexOf('/') + 1)}/${query === undefined ? '' : `?${query}`}`;
}

/** Answers an error of the request body as JSON for the page. All other errors go to the application. */
function answerClientError(
  error: { status?: number; message?: string },
  _req: Request,
  res: Response,
  next: NextFunction,
): void {
  if (res.headersSent || error?.status === undefined || error.status < 400 || error.status > 499) return next(error);
  preventStoring(res); // a path that cannot be decoded reaches no route, so the headers are not set
  res.status(error.status).json({ error: error.message });
}

function checkArguments(
  events: unknown,
  options: unknown,
): { events: SseRouter; introspection: Introspection; publish: boolean } {
  const introspection = (events as { [INTROSPECT]?: Introspection } | null | undefined)?.[INTROSPECT];
  if (introspection === undefined) {
    throw invalid('inspector(events): events', 'a router that sse() or runs() has returned', events, {
      cure: 'Pass the router itself, as in inspector(events).',
    });
  }
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalid('inspector(events, options): options', 'an object such as { publish: true }', options, {
      cure: 'Leave it out for { publish: false }.',
    });
  }
  rejectUnknownKeys('option of inspector()', options, { publish: true });
  const publish = boolean('publish', (options as InspectorOptions).publish);
  if (publish && introspection.runs !== undefined) {
    throw invalid('publish', 'false for a router of runs, which broadcasts nothing', publish, {
      cure: 'Leave it out.',
    });
  }
  return { events: events as SseRouter, introspection, publish };
}
