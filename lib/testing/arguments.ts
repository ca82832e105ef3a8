/*
 * Checks the arguments of the testing kit. A wrong one would give a stream without events, or a test that passes without a check.
 * Invariant: every argument is checked before a request is sent or a wait begins.
 */
import type { RequestBody } from '../http-client/request.ts';
import { invalid, plainObject, rejectUnknownKeys } from '../validation/validate.ts';
import type { ConnectOptions } from './connect.ts';

const KNOWN_OPTIONS: Record<keyof Required<ConnectOptions>, true> = {
  method: true,
  headers: true,
  body: true,
  lastEventId: true,
  timeout: true,
};

/** Checks what `connect()` connects to. */
export function checkTarget(target: unknown): void {
  const name = 'The first argument of connect()';
  const expectation = 'an app, a router, a listener, a server of node:http or node:https, or an http(s) URL as text';
  if (typeof target === 'function') return;
  if (typeof target === 'string') {
    if (/^https?:\/\//i.test(target) && URL.canParse(target)) return;
    const isAddress = /^[\w.-]+(:\d+)?(\/|$)/.test(target) && URL.canParse(`http://${target}`);
    throw invalid(name, expectation, target, isAddress ? { cure: `Did you mean http://${target}?` } : {});
  }
  const { listen, address, emit } = (target ?? {}) as Record<string, unknown>;
  if ([listen, address, emit].every((method) => typeof method === 'function')) return;
  const cure = target instanceof URL ? 'Pass its href.' : 'Pass the app itself, as in connect(app, path).';
  throw invalid(name, expectation, target, { cure });
}

/** Checks the path of `connect()`. */
export function checkPath(path: unknown): void {
  if (path === undefined || typeof path === 'string') return;
  throw invalid('The second argument of connect()', 'a path', path, {
    cure: 'Pass options third: connect(target, path, options).',
  });
}

/** Checks the options of `connect()` and `reconnect()`. */
export function checkOptions(options: ConnectOptions): void {
  rejectUnknownKeys('option of connect()', options, KNOWN_OPTIONS);
  const { headers, lastEventId, timeout, method } = options;
  if (headers !== undefined) {
    plainObject('headers', headers, '{ cookie: … }', { cure: 'Convert Headers with Object.fromEntries(headers).' });
  }
  for (const [name, value] of Object.entries({ lastEventId, method })) {
    if (value === undefined || typeof value === 'string') continue;
    throw invalid(name, 'a string', value, { cure: `Pass ${name} as text, or leave it out.` });
  }
  if (timeout !== undefined) checkTimeout(timeout);
}

/** Checks a number of milliseconds. */
export function checkTimeout(timeout: unknown): void {
  if (typeof timeout === 'number' && timeout >= 0) return;
  throw invalid('timeout', 'a number of milliseconds that is not negative', timeout, {
    cure: 'Leave it out for the default.',
  });
}

/** Checks the number of events to take. */
export function checkCount(count: unknown): void {
  if (typeof count === 'number' && Number.isInteger(count) && count >= 0) return;
  throw invalid('The first argument of take()', 'a whole number of events that is not negative', count, {
    cure: 'Pass a number, as in take(2).',
  });
}

/** Returns the result of a condition of `until()`. A promise is truthy, so a condition that returns one would be true at once. */
export function checkResult(result: unknown): boolean {
  if (typeof (result as { then?: unknown } | null | undefined)?.then !== 'function') return Boolean(result);
  throw invalid('The result of the condition of until()', 'true or false', result, {
    cure: 'Pass a function without async; await other promises before or after until().',
  });
}

/** Returns the bytes of a body and their type. */
export function encodeBody(body: unknown): RequestBody | undefined {
  if (body === undefined) return undefined;
  if (body instanceof Uint8Array) return { bytes: body, contentType: undefined };
  if (typeof body === 'string') return { bytes: Buffer.from(body), contentType: undefined };
  return { bytes: Buffer.from(jsonOf(body)), contentType: 'application/json' };
}

function jsonOf(body: unknown): string {
  let [json, cause]: [string | undefined, unknown] = [undefined, undefined];
  try {
    if (!isLostInJson(body)) json = JSON.stringify(body) as string | undefined; // `undefined` for a function or a symbol
  } catch (error) {
    cause = error;
  }
  if (json !== undefined) return json;
  const cure =
    body instanceof URLSearchParams
      ? "Pass String(body), with the header 'content-type': 'application/x-www-form-urlencoded'."
      : 'Pass text or bytes, with their content type in headers.';
  throw invalid('body', 'text, a Uint8Array, or a value that JSON represents', body, { cure, cause });
}

/** Whether the content of an object is not in its keys: JSON would be `{}`. */
function isLostInJson(body: unknown): boolean {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return false;
  if (typeof (body as { toJSON?: unknown }).toJSON === 'function') return false;
  return (
    Symbol.iterator in body || // FormData, Headers, Map, Set, URLSearchParams
    Symbol.asyncIterator in body ||
    'then' in body ||
    body instanceof ArrayBuffer ||
    body instanceof Blob ||
    ArrayBuffer.isView(body)
  );
}
