/*
 * The headers of a request, as the application gave them: fixed, or asked for at every connect.
 */

import type { ConnectOptions } from './event-stream.ts';
import type { RequestHeaders } from './source.ts';

export async function headersOf({ headers }: ConnectOptions): Promise<RequestHeaders> {
  const renewable = typeof headers === 'function';
  return { fields: Object.fromEntries(new Headers(renewable ? await headers() : headers)), renewable };
}
