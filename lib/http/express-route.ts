/*
 * Finds out whether a route of Express calls the router. Express passes the same arguments to a route's handler as to a mounted router,
 * and only mounting shortens the path.
 *
 * Invariant: where the router is mounted, a path below the mount path is never taken for a route's.
 */

import type { Request } from 'express';
import { invalid } from '../validation/validate.ts';
import { pathOf } from './request-info.ts';

/** What is read of Express' own objects. */
interface Layer {
  readonly handle: Handle;
  readonly route?: Route;
  /** The part of the path that Express 4 has matched. */
  readonly path?: string;
  match(path: string): boolean | { readonly path: string };
}
interface Handle {
  readonly stack?: readonly Layer[];
}
interface Route {
  readonly stack: readonly Layer[];
}
interface App {
  readonly parent?: App;
  readonly _router?: Handle; // Express 4, where `router` throws
  readonly router: Handle;
  path(): string;
}

/** Checks that a function of the application has passed `next` on to a router. @param router Its name in the message. */
export function checkNext(next: unknown, router: string): void {
  if (typeof next === 'function') return;
  const cure = `Pass on the one that your function has received: ${router}(req, res, next).`;
  throw invalid('The argument next of the router', 'a function', next, { cure });
}

/** Whether a route calls the router: it is the route's handler, or a function of the application in the route calls it. */
export function isCalledByRoute(req: Request, next: unknown, router: Handle): boolean {
  const route = req.route as Route | undefined;
  if (route === undefined) return false;
  if (route.stack.some(({ handle }) => isSame(handle, router))) return true;
  // The functions that are mounted in a router get its `next`, which is `req.next`, and the handlers of a route get another one.
  if (next === req.next) return false;
  // Instrumentations replace the `next` of every function. And `req.route` stays when a route has passed the request on.
  return !hasLeft(route, req, router);
}

/** Whether the request is no longer in the route that it was in last. */
function hasLeft(route: Route, req: Request, router: Handle): boolean {
  const fullPath = req.baseUrl + pathOf(req);
  for (let app = req.app as unknown as App | undefined; app !== undefined; app = app.parent) {
    const depth = app.path().split('/').filter(Boolean).length; // it may contain parameters, so only the number counts
    const appUrl = req.baseUrl
      .split('/')
      .slice(0, depth + 1)
      .join('/');
    const place = find(route, (app._router ?? app.router).stack, appUrl, fullPath.slice(appUrl.length));
    if (place === undefined) continue;
    const { stack, baseUrl, path } = place;
    const isMountedHere = stack.some((layer) => isSame(layer.handle, router) && matchedBy(layer, path) === '');
    return baseUrl !== req.baseUrl || isMountedHere;
  }
  return false;
}

/** Finds the stack that contains the route, with the base URL of the request in it and the rest of its path. */
function find(
  route: Route,
  stack: readonly Layer[] = [],
  baseUrl: string,
  path: string,
): { stack: readonly Layer[]; baseUrl: string; path: string } | undefined {
  for (const layer of stack) {
    if (layer.route === route) return { stack, baseUrl, path };
    if (layer.route !== undefined || layer.handle.stack === undefined) continue;
    const matched = matchedBy(layer, path);
    if (matched === undefined) continue;
    const place = find(route, layer.handle.stack, baseUrl + matched, path.slice(matched.length));
    if (place !== undefined) return place;
  }
  return undefined;
}

/** Returns the part of the path that mounting removes, without a slash at its end; `undefined` if the layer does not match. */
function matchedBy(layer: Layer, path: string): string | undefined {
  const match = layer.match(path === '' ? '/' : path); // Express 5.3 returns an object, earlier versions set `path`
  const matched = typeof match === 'object' ? match.path : match ? layer.path : undefined;
  return matched?.replace(/\/$/, '');
}

/** Whether a function is the router. Packages such as express-async-errors, and instrumentations, wrap it and copy its properties. */
function isSame(handle: Handle, router: Handle): boolean {
  return handle === router || (handle.stack !== undefined && handle.stack === router.stack);
}
