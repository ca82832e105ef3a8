/*
 * Finds the request to a router of runs in the path of the Express route that calls it. Where the router is mounted, the path below the
 * mount path is this request. A route does not shorten the path.
 *
 * Invariant: a path that has two meanings has none. The caller reports it, because a 404 or 405 would hide the mistake.
 */

import type { Request } from 'express';
import type { SseTypeError } from '../errors.ts';
import { pathOf } from '../http/request-info.ts';
import { invalid } from '../validation/validate.ts';

const ACTIONS: readonly string[] = ['stream', 'status', 'stop'];

/** A parameter of Express 4, perhaps with an expression, or of Express 5. */
const PARAMETER = /^:(\w+)(?:\(.*\))?$/;
/** The wildcard of Express 4, or the one of Express 5. */
const WILDCARD = /^\*\w*$/;
/** The wildcard of Express 5 that matches nothing, too. */
const OPTIONAL_WILDCARD = /\{\/?(\*\w+)\}$/;

/** The parts of Express' own object that are read. */
interface Route {
  readonly path: unknown;
  /** `route.all()` sets `_all`, and `app.all()` sets every method. No application serves TRACE by itself. */
  readonly methods?: { readonly _all?: boolean; readonly trace?: boolean };
}

/** Returns the path that the request would have below a mount path; `undefined` if the path of the route does not show it. */
export function pathInRoute(req: Request): string | undefined {
  const { path } = routeOf(req);
  const segments = segmentsOf(pathOf(req));
  for (const pattern of [path].flat()) {
    if (typeof pattern !== 'string') continue;
    const names = segmentsOf(pattern.replace(OPTIONAL_WILDCARD, '/$1'));
    if (isMatch(names, segments, req.params)) return meaningOf(names, segments, req.method);
  }
  // A function in the route has set the URL that the router would have below a mount path.
  return isRewritten(req) ? pathOf(req) : undefined;
}

/** Whether the application chose the methods of the route. A route of all methods receives methods for which it is not meant. */
export function hasChosenMethods(req: Request): boolean {
  const { methods } = routeOf(req);
  return methods?._all !== true && methods?.trace !== true;
}

/** Returns the error for a route whose path or method shows no request to the router. */
export function unclearRoute(req: Request): SseTypeError {
  const { path } = routeOf(req);
  const cure =
    "Mount the router: app.use('/chat', chat). Or use app.post('/chat', chat), app.get('/chat/:id', chat), app.get('/chat/:id/stream', chat), app.get('/chat/:id/status', chat), app.delete('/chat/:id', chat) and app.post('/chat/:id/stop', chat), where the parameter of the run has the name id.";
  const expectation = `the path of a ${req.method} request to this router`;
  return invalid('The path of a route that calls a router of runs', expectation, path, { cure });
}

function routeOf(req: Request): Route {
  return req.route as Route;
}

/** Returns the path for the end of a pattern: the id of a run, perhaps with an action, or the start of a run. */
function meaningOf(names: readonly string[], segments: readonly string[], method: string): string | undefined {
  const last = names.at(-1) ?? '';
  const action = last.toLowerCase();
  if (WILDCARD.test(last)) return `/${segments.slice(names.length - 1).join('/')}`;
  if (parameterOf(last) === 'id') return `/${segments.at(-1)}`;
  const before = parameterOf(names.at(-2));
  if (before !== undefined && ACTIONS.includes(action)) {
    return before === 'id' ? `/${segments.at(-2)}/${action}` : undefined;
  }
  // Another parameter may be the id of a run or, with POST, a part of the address at which runs start.
  const isStart = parameterOf(last) === undefined || method === 'POST' || method === 'OPTIONS';
  return isStart ? '/' : undefined;
}

/** Whether a pattern of plain segments, parameters and a wildcard at its end matches the path, with these parameters. */
function isMatch(names: readonly string[], segments: readonly string[], params: Request['params']): boolean {
  const isWild = WILDCARD.test(names.at(-1) ?? '');
  const count = isWild ? names.length - 1 : names.length;
  if (isWild ? segments.length < count : segments.length !== count) return false;
  return names.slice(0, count).every((name, index) => {
    const parameter = parameterOf(name);
    const segment = decode(segments[index]!);
    return parameter === undefined ? isSameText(name, segment) : params[parameter] === segment;
  });
}

/** Whether the path of the request is no longer the one that its client sent. */
function isRewritten(req: Request): boolean {
  const [original = ''] = req.originalUrl.split('?', 1);
  return segmentsOf(original).join('/') !== segmentsOf(req.baseUrl + pathOf(req)).join('/');
}

function parameterOf(name: string | undefined): string | undefined {
  return name === undefined ? undefined : PARAMETER.exec(name)?.[1];
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter(Boolean);
}

/** Whether two segments are the same for a route, which ignores case by default. */
function isSameText(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
