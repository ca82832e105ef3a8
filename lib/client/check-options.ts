/*
 * The check of the options of `connect()`: a wrong one is an error of the call, not of a request much later.
 * A rule is both the condition and the text of the error, because every byte of the client counts.
 */

const POSITIVE = 'a positive number';

/** A rule contains the type of a valid value, or the value itself. */
const RULES: Readonly<Record<string, string>> = {
  tabs: 'an object',
  headers: 'an object or a function',
  credentials: '"omit", "same-origin" or "include"',
  method: '"GET" or "POST"',
  body: 'a string or an object',
  from: 'a string',
  parse: 'a function',
  silence: `${POSITIVE} or false`,
  retry: 'an object',
  'retry.min': POSITIVE,
  'retry.max': POSITIVE,
  signal: 'an object',
  fetch: 'a function',
};

/** @throws {TypeError} if an option is unknown, or its value cannot be used. */
export function checkOptions(options: object, prefix = ''): void {
  for (const [key, value] of Object.entries(options)) {
    const name = prefix + key;
    const rule = RULES[name];
    // NaN, 0 and null have a type of their own.
    const type = value === null || (typeof value === 'number' && !(value > 0)) ? String(value) : typeof value;
    if (value === undefined) continue;
    if (!rule || !(rule.includes(type) || rule.includes(JSON.stringify(value))))
      throw new TypeError(
        `${name} must be ${rule ?? 'left out, it is no option'}; received the ${typeof value} ${String(value)}. Leave it out for the default.`,
      );
    if (name === 'retry') checkOptions(value, 'retry.');
  }
}
