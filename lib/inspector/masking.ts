/*
 * What of a request may be shown.
 * Knows nothing of any other room.
 * Invariant: when in doubt it is a secret. Names are always shown, values only where they are known to be harmless.
 */

import type { IncomingHttpHeaders } from 'node:http';

/** Said in place of a value. */
export const HIDDEN = null;

const HARMLESS =
  /^(accept(-.+)?|cache-control|connection|content-(type|length)|dnt|host|origin|pragma|priority|sec-ch-.+|sec-fetch-.+|te|upgrade-insecure-requests|user-agent|via|x-forwarded-(for|host|port|proto)|forwarded|x-real-ip|x-requested-with)$/;
const SECRET_NAME = /auth|cookie|token|secret|key|sess|sid|jwt|csrf|xsrf|pass|sign|cred|assert|cert|bearer/;
/** What a token is made of: a long run in which letters and digits are mixed, or a long run of anything. */
const RUN = /[\w+/~-]{16,}/g;

/** Names and values; a value of null is not shown. */
export function headersOf(headers: IncomingHttpHeaders): [name: string, value: string | null][] {
  return Object.entries(headers).map(([name, value]) => {
    const text = Array.isArray(value) ? value.join(', ') : (value ?? '');
    return [name, valueOf(name, text)];
  });
}

function valueOf(name: string, value: string): string | null {
  if (name === 'referer') return addressOf(value);
  if (HARMLESS.test(name)) return short(value);
  return SECRET_NAME.test(name) || looksSecret(value) ? HIDDEN : short(value);
}

/** A URL or the path of one: without the values of its query, its fragment, its user, and what looks like a token in its path. */
export function addressOf(url: string): string {
  const [path = '', query] = url.split('#', 1)[0]!.split('?', 2);
  const shown = path
    .replace(/^([a-z][a-z\d+.-]*:\/\/)[^/]*@/i, '$1')
    .split('/')
    .map((part) => (looksSecret(part) ? '…' : part))
    .join('/');
  if (query === undefined) return short(shown);
  const names = query.split('&').map((pair) => pair.split('=', 1)[0]!);
  return short(`${shown}?${names.map((name) => (looksSecret(name) ? '…' : `${name}=…`)).join('&')}`);
}

function looksSecret(value: string): boolean {
  if (/^(basic|bearer|digest|negotiate)\s/i.test(value)) return true;
  for (const [run] of value.matchAll(RUN)) if (run.length > 48 || (/\d/.test(run) && /[a-z]/i.test(run))) return true;
  return false;
}

function short(value: string): string {
  return value.length > 400 ? `${value.slice(0, 400)}…` : value;
}
