/*
 * Removes the secrets from the headers and addresses that the page shows.
 * Invariant: what is not known to be harmless is a secret. Names are always shown; values only if they are known to be harmless.
 */

import type { IncomingHttpHeaders } from 'node:http';

/** Takes the place of a value that is not shown. */
const HIDDEN = null;
/** Takes the place of a part of an address that is not shown. */
const HIDDEN_PART = '…';

const MAX_LENGTH = 400;
/** A longer part of a path, or name, is taken for a token whatever it consists of. */
const MAX_PART_LENGTH = 48;

/** The headers that are harmless. Every other one may be the application's own: `x-team`, but `x-pin` too. */
const HARMLESS =
  /^(accept(-(charset|encoding|language))?|cache-control|cf-ipcountry|connection|content-(type|length)|dnt|forwarded|host|origin|pragma|priority|sec-ch-.+|sec-fetch-.+|sec-gpc|te|upgrade-insecure-requests|user-agent|via|x-forwarded-(for|host|port|proto)|x-real-ip|x-requested-with)$/;
/** What stands between the words of a name. Other characters, such as `=` and `;`, may precede a value. */
const SEPARATORS = /[-_.~:@,+ [\]]/;
/**
 * A word as people write it in addresses: `orders`, `userId`, `API`, `order12`, `v2`, a number. Not known to be harmless are
 * letters mixed with digits, capitals in the midst of other letters, and anything longer.
 */
const WORD =
  /^(?:[\p{Ll}\p{Lo}]{1,20}|(?=.{1,24}$)\p{Lu}?\p{Ll}+(?:\p{Lu}\p{Ll}+)*|\p{Lu}{1,12}|\p{L}\p{Ll}{0,11}\d{1,3}|\d{1,16})?$/u;
/** The number at the end of an id: the position in the log, if the id is one of this package. */
const POSITION = /[-~]\d{1,9}$/;

/** Returns the names and values of headers; `null` is a value that is not shown. */
export function redactHeaders(headers: IncomingHttpHeaders): [name: string, value: string | null][] {
  return Object.entries(headers).map(([name, value]) => {
    const text = Array.isArray(value) ? value.join(', ') : (value ?? '');
    return [name, redactValue(name, text)];
  });
}

function redactValue(name: string, value: string): string | null {
  if (name === 'referer') return redactUrl(value);
  if (name === 'last-event-id') return redactId(value);
  return HARMLESS.test(name) ? shorten(value) : HIDDEN;
}

/**
 * Returns a URL, or the path of one, without the values of its query, its fragment, its user, the parameters of its path
 * (`;name=value`), and each part of its path that is not known to be harmless.
 */
export function redactUrl(url: string): string {
  const [path = '', query] = url.split('#', 1)[0]!.split('?', 2);
  const [, origin = '', rest = ''] = /^((?:[a-z][a-z\d+.-]*:\/\/[^/]*)?)(.*)$/is.exec(path)!;
  const parts = rest.split('/').map((part) => {
    const [name = '', ...parameters] = part.split(';');
    return [redactPart(name), ...parameters.map(() => HIDDEN_PART)].join(';');
  });
  const redacted = origin.replace(/\/\/.*@/s, '//') + parts.join('/');
  if (query === undefined) return shorten(redacted);
  const names = query.split('&').map((pair) => pair.split('=', 1)[0]!);
  return shorten(`${redacted}?${names.map((name) => (isHarmless(name) ? `${name}=…` : HIDDEN_PART)).join('&')}`);
}

/** Returns an id that a client sent: unchanged if it is harmless, otherwise at most the number at its end. */
export function redactId(id: string): string {
  return isHarmless(id) ? id : HIDDEN_PART + (POSITION.exec(id)?.[0] ?? '');
}

function redactPart(part: string): string {
  return isHarmless(part) ? part : HIDDEN_PART;
}

function isHarmless(text: string): boolean {
  if (text.length > MAX_PART_LENGTH) return false;
  try {
    return decodeURIComponent(text)
      .split(SEPARATORS)
      .every((word) => WORD.test(word));
  } catch {
    return false; // an invalid escape
  }
}

function shorten(value: string): string {
  return value.length > MAX_LENGTH ? `${value.slice(0, MAX_LENGTH)}…` : value;
}
