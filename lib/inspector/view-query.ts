/*
 * The view of one viewer, from the query of its request: the filters, the order and page of the connections, and the selected one.
 * Invariant: every query gives a view; a value that is not valid gives the default.
 */

import type { IncomingMessage } from 'node:http';

export type Order = 'oldest' | 'newest' | 'queued';
/** Whether a name matches. */
export type Filter = (name: string) => boolean;

/** What one viewer sees. */
export interface View {
  /** `undefined`: connections of all channels, and of none. */
  readonly channel: Filter | undefined;
  /** The filter of event names. */
  readonly name: Filter | undefined;
  readonly order: Order;
  /** Equal for views with the same channel filter and order: they are pages of one list. */
  readonly list: string;
  /** From 0. */
  readonly page: number;
  /** The id of the selected connection; `''` for none. */
  readonly selected: string;
}

/** Returns the view that a request asks for. */
export function viewOf(req: IncomingMessage): View {
  const query = new URLSearchParams(req.url?.split('?', 2)[1]);
  const given = query.get('order');
  const order = given === 'newest' || given === 'queued' ? given : 'oldest';
  const channel = query.get('channel');
  const page = Number(query.get('page'));
  return {
    channel: filterOf(channel),
    name: filterOf(query.get('name')),
    order,
    list: JSON.stringify([order, channel ?? '']),
    page: Number.isSafeInteger(page) && page > 0 ? page : 0,
    selected: query.get('selected') ?? '',
  };
}

/** Returns the filter for a whole name, or for the beginning of one followed by a star. */
function filterOf(text: string | null): Filter | undefined {
  if (text === null || text === '') return undefined;
  if (!text.endsWith('*')) return (name) => name === text;
  const start = text.slice(0, -1);
  return (name) => name.startsWith(start);
}
