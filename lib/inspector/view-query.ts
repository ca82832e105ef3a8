/*
 * What one viewer looks at: the filters, the order and page of the connections, and the one that is selected.
 * Knows requests.
 * Invariant: whatever a query says becomes a view; what makes no sense becomes the default.
 */

import type { IncomingMessage } from 'node:http';

export type Order = 'oldest' | 'newest' | 'queued';
/** Whether a name passes. */
export type Filter = (name: string) => boolean;

export interface View {
  /** `undefined`: every channel, and none. */
  readonly channel: Filter | undefined;
  /** Of events. */
  readonly name: Filter | undefined;
  readonly order: Order;
  /** From 0. */
  readonly page: number;
  /** A connection's id; '' for none. */
  readonly selected: string;
}

export function viewOf(req: IncomingMessage): View {
  const query = new URLSearchParams(req.url?.split('?', 2)[1]);
  const order = query.get('order');
  const page = Number(query.get('page'));
  return {
    channel: filterOf(query.get('channel')),
    name: filterOf(query.get('name')),
    order: order === 'newest' || order === 'queued' ? order : 'oldest',
    page: Number.isSafeInteger(page) && page > 0 ? page : 0,
    selected: query.get('selected') ?? '',
  };
}

/** A name, or the beginning of one and a star. */
function filterOf(text: string | null): Filter | undefined {
  if (text === null || text === '') return undefined;
  if (!text.endsWith('*')) return (name) => name === text;
  const start = text.slice(0, -1);
  return (name) => name.startsWith(start);
}
