/*
 * What a failed expectation says: not only that nothing came, but what did.
 * Knows nothing of any other room.
 * Invariant: the text is bounded, whatever the stream has sent.
 */

/** All that is worth knowing about a stream whose event has not come. */
export interface Received {
  readonly status: number;
  readonly headers: { readonly 'content-type'?: string };
  readonly events: readonly { readonly event: string; readonly id: string | undefined; readonly data: string }[];
  readonly comments: readonly string[];
  readonly retry: number | undefined;
  readonly lastEventId: string;
  readonly text: string;
}

const SHOWN_EVENTS = 10;
const SHOWN_COMMENTS = 5;
const SHOWN_TEXT = 600;

/** The message of an error: its headline, then everything that was received. */
export function report(headline: string, request: string, state: string, received: Received): string {
  const { events, comments, text } = received;
  const lines = [
    headline,
    `  answer    ${received.status} ${received.headers['content-type'] ?? '(no content type)'}, to ${request}`,
    `  stream    ${state}; last event id ${quoted(received.lastEventId, 100)}, retry ${received.retry ?? 'not set'}`,
    `  events    ${events.length}${more(events.length, SHOWN_EVENTS)}`,
    ...events.slice(-SHOWN_EVENTS).map((event) => `              ${line(event)}`),
    `  comments  ${comments.length}${more(comments.length, SHOWN_COMMENTS)}`,
    ...comments.slice(-SHOWN_COMMENTS).map((comment) => `              ${quoted(comment, 100)}`),
    `  raw text  ${text.length} characters${more(text.length, SHOWN_TEXT)}`,
  ];
  if (text !== '') lines.push(`              ${quoted(text.slice(-SHOWN_TEXT), SHOWN_TEXT)}`);
  return lines.join('\n');
}

function line({ event, id, data }: Received['events'][number]): string {
  return `${event}${id === undefined ? '' : ` (id ${quoted(id, 60)})`} ${quoted(data, 100)}`;
}

function more(length: number, shown: number): string {
  return length > shown ? `, the last ${shown}:` : length > 0 ? ':' : '';
}

function quoted(text: string, most: number): string {
  return JSON.stringify(text.length > most ? `${text.slice(0, most)}…` : text);
}
