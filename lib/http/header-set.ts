/*
 * The headers of a stream: our own, the application's over them, and those that were there before.
 * Knows node:http's responses, and nothing of the package but header values.
 * Invariant: nothing is set before the opening, or error answers would inherit it.
 */

import type { OutgoingMessage } from 'node:http';

/** Names and values; `undefined` removes. */
export type HeaderLayer = Record<string, string | readonly string[] | undefined>;

export class HeaderSet {
  readonly #fields: readonly (readonly [name: string, value: string | readonly string[] | undefined])[];

  /** Later layers win, without regard to case; only `Vary` adds up. */
  constructor(...layers: readonly HeaderLayer[]) {
    const fields = new Map<string, readonly [string, string | readonly string[] | undefined]>();
    for (const [name, value] of layers.flatMap((layer) => Object.entries(layer))) {
      const key = name.toLowerCase();
      const before = key === 'vary' && value !== undefined ? fields.get(key)?.[1] : undefined;
      fields.set(key, [name, before === undefined ? value : [before, value ?? []].flat()]);
    }
    this.#fields = [...fields.values()];
  }

  /** Whether it has something to say of this header. */
  has(name: string): boolean {
    return this.#fields.some(([field, value]) => field.toLowerCase() === name && value !== undefined);
  }

  apply(response: OutgoingMessage): void {
    // What describes another body than a stream must not stand on one.
    for (const name of ['Content-Length', 'ETag', 'Last-Modified'])
      if (response.hasHeader(name)) response.removeHeader(name);
    for (const [name, value] of this.#fields) {
      if (value === undefined) response.removeHeader(name);
      else if (name.length === 4 && name.toLowerCase() === 'vary') appendVary(response, value);
      else response.setHeader(name, value);
    }
  }
}

/** Adds to what answers vary by; what is there stays. */
export function appendVary(response: OutgoingMessage, value: string | readonly string[]): void {
  const before = [response.getHeader('Vary') ?? []].flat().map(String);
  const names = [...before, ...[value].flat()].flatMap((list) => list.split(',')).map((name) => name.trim());
  const seen = new Map<string, string>();
  for (const name of names) if (name !== '' && !seen.has(name.toLowerCase())) seen.set(name.toLowerCase(), name);
  if (seen.size > 0) response.setHeader('Vary', [...seen.values()].join(', '));
}
