/*
 * What of a request may be shown.
 * Knows nothing of any other room.
 * Invariant: when in doubt it is a secret. Names are always shown, values only where they are known to be harmless.
 */

import type { IncomingHttpHeaders } from 'node:http';

/** Said in place of a value. */
export const HIDDEN = null;

/** Every other header is somebody's own: `x-team` as well as `x-pin`. */
const HARMLESS =
  /^(accept(-(charset|encoding|language))?|cache-control|cf-ipcountry|connection|content-(type|length)|dnt|forwarded|host|last-event-id|origin|pragma|priority|sec-ch-.+|sec-fetch-.+|sec-gpc|te|upgrade-insecure-requests|user-agent|via|x-forwarded-(for|host|port|proto)|x-real-ip|x-requested-with)$/;
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
  return HARMLESS.test(name) ? short(value) : HIDDEN;
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
  for (const [run] of value.matchAll(RUN)) if (run.length > 48 || (/\d/.test(run) && /[a-z]/i.test(run))) return true;
  return false;
}

function short(value: string): string {
  return value.length > 400 ? `${value.slice(0, 400)}…` : value;
}
