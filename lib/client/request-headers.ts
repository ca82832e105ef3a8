/*
 * The headers of a request, as the application gave them: fixed, or asked for at every connect.
 */

import type { ConnectOptions } from './event-stream.ts';
import type { RequestHeaders } from './source.ts';

export async function headersOf({ headers }: ConnectOptions): Promise<RequestHeaders> {
  const isRenewable = typeof headers === 'function';
  return [Object.fromEntries(new Headers(isRenewable ? await headers() : headers)), isRenewable];
}
