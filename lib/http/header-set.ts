/*
 * Merges the headers of a stream: the router's defaults, then the application's, on top of those that the response has already.
 *
 * Invariant: no header is set before the opening, because error responses would inherit it.
 */

import type { OutgoingMessage } from 'node:http';

/** Header values by name; `undefined` removes a header. */
export type HeaderLayer = Record<string, string | readonly string[] | undefined>;

/** Header layers, merged once for all responses. */
export class HeaderSet {
  readonly #fields: readonly (readonly [name: string, value: string | readonly string[] | undefined])[];

  /** Later layers override earlier ones, without regard to case; the values of `Vary` are joined. */
  constructor(...layers: readonly HeaderLayer[]) {
    const fields = new Map<string, readonly [string, string | readonly string[] | undefined]>();
    for (const [name, value] of layers.flatMap((layer) => Object.entries(layer))) {
      const key = name.toLowerCase();
      const earlier = key === 'vary' && value !== undefined ? fields.get(key)?.[1] : undefined;
      fields.set(key, [name, earlier === undefined ? value : [earlier, value ?? []].flat()]);
    }
    this.#fields = [...fields.values()];
  }

  /** Whether it sets this header. `name` is in lower case. */
  has(name: string): boolean {
    return this.#fields.some(([field, value]) => field.toLowerCase() === name && value !== undefined);
  }

  /** Sets and removes the headers on a response. */
  apply(response: OutgoingMessage): void {
    // These headers of an earlier middleware describe a body of known content, and a stream has none.
    for (const name of ['Content-Length', 'ETag', 'Last-Modified'])
      if (response.hasHeader(name)) response.removeHeader(name);
    for (const [name, value] of this.#fields) {
      if (value === undefined) response.removeHeader(name);
      else if (name.length === 4 && name.toLowerCase() === 'vary') appendVary(response, value);
      else response.setHeader(name, value);
    }
  }
}

/** Appends names to the header `Vary`; the names that are there stay. */
export function appendVary(response: OutgoingMessage, value: string | readonly string[]): void {
  const present = [response.getHeader('Vary') ?? []].flat().map(String);
  const names = [...present, ...[value].flat()].flatMap((list) => list.split(',')).map((name) => name.trim());
  const unique = new Map<string, string>();
  for (const name of names) if (name !== '' && !unique.has(name.toLowerCase())) unique.set(name.toLowerCase(), name);
  if (unique.size > 0) response.setHeader('Vary', [...unique.values()].join(', '));
}
