/*
 * Removes the secrets from the headers and addresses that the page shows.
 * Invariant: what is not known to be harmless is a secret. Names are always shown; values only if they are known to be harmless.
 */

import type { IncomingHttpHeaders } from 'node:http';

/** Takes the place of a value that is not shown. */
const HIDDEN = null;

const MAX_LENGTH = 400;
/** A run of characters longer than this is taken for a token even if letters and digits are not mixed. */
const MAX_PLAIN_RUN = 48;

/** The headers that are harmless. Every other one may be the application's own: `x-team`, but `x-pin` too. */
const HARMLESS =
  /^(accept(-(charset|encoding|language))?|cache-control|cf-ipcountry|connection|content-(type|length)|dnt|forwarded|host|last-event-id|origin|pragma|priority|sec-ch-.+|sec-fetch-.+|sec-gpc|te|upgrade-insecure-requests|user-agent|via|x-forwarded-(for|host|port|proto)|x-real-ip|x-requested-with)$/;
/** A token contains a long run in which letters and digits are mixed, or a very long run of anything. */
const RUN = /[\w+/~-]{16,}/g;

/** Returns the names and values of headers; `null` is a value that is not shown. */
export function redactHeaders(headers: IncomingHttpHeaders): [name: string, value: string | null][] {
  return Object.entries(headers).map(([name, value]) => {
    const text = Array.isArray(value) ? value.join(', ') : (value ?? '');
    return [name, redactValue(name, text)];
  });
}

function redactValue(name: string, value: string): string | null {
  if (name === 'referer') return redactUrl(value);
  return HARMLESS.test(name) ? shorten(value) : HIDDEN;
}

/**
 * Returns a URL, or the path of one, without the values of its query, its fragment, its user, and the parts of its path that
 * look like tokens.
 */
export function redactUrl(url: string): string {
  const [path = '', query] = url.split('#', 1)[0]!.split('?', 2);
  const redacted = path
    .replace(/^([a-z][a-z\d+.-]*:\/\/)[^/]*@/i, '$1')
    .split('/')
    .map((part) => (looksSecret(part) ? '…' : part))
    .join('/');
  if (query === undefined) return shorten(redacted);
  const names = query.split('&').map((pair) => pair.split('=', 1)[0]!);
  return shorten(`${redacted}?${names.map((name) => (looksSecret(name) ? '…' : `${name}=…`)).join('&')}`);
}

function looksSecret(value: string): boolean {
  for (const [run] of value.matchAll(RUN)) {
    if (run.length > MAX_PLAIN_RUN || (/\d/.test(run) && /[a-z]/i.test(run))) return true;
  }
  return false;
}

function shorten(value: string): string {
  return value.length > MAX_LENGTH ? `${value.slice(0, MAX_LENGTH)}…` : value;
}
