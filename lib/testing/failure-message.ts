/*
 * Builds the message of a failed expectation: what the test waited for, and what has arrived instead.
 * Invariant: the length of the text is bounded, whatever the stream has sent.
 */

/** The state of a stream that a failure message shows. */
export interface Received {
  readonly status: number;
  readonly headers: { readonly 'content-type'?: string };
  readonly events: readonly { readonly event: string; readonly id: string | undefined; readonly data: string }[];
  readonly comments: readonly string[];
  readonly retry: number | undefined;
  readonly lastEventId: string;
  readonly text: string;
}

const MAX_EVENTS = 10;
const MAX_COMMENTS = 5;
const MAX_CHARACTERS = 600;

/** Returns the message of an error: its headline, then everything that was received. */
export function failureMessage(headline: string, request: string, state: string, received: Received): string {
  const { events, comments, text } = received;
  const lines = [
    headline,
    `  answer    ${received.status} ${received.headers['content-type'] ?? '(no content type)'}, to ${request}`,
    `  stream    ${state}; last event id ${quoted(received.lastEventId, 100)}, retry ${received.retry ?? 'not set'}`,
    `  events    ${events.length}${countSuffix(events.length, MAX_EVENTS)}`,
    ...events.slice(-MAX_EVENTS).map((event) => `              ${eventLine(event)}`),
    `  comments  ${comments.length}${countSuffix(comments.length, MAX_COMMENTS)}`,
    ...comments.slice(-MAX_COMMENTS).map((comment) => `              ${quoted(comment, 100)}`),
    `  raw text  ${text.length} characters${countSuffix(text.length, MAX_CHARACTERS)}`,
  ];
  if (text !== '') lines.push(`              ${quoted(text.slice(-MAX_CHARACTERS), MAX_CHARACTERS)}`);
  return lines.join('\n');
}

function eventLine({ event, id, data }: Received['events'][number]): string {
  return `${event}${id === undefined ? '' : ` (id ${quoted(id, 60)})`} ${quoted(data, 100)}`;
}

function countSuffix(count: number, shown: number): string {
  return count > shown ? `, the last ${shown}:` : count > 0 ? ':' : '';
}

function quoted(text: string, maxLength: number): string {
  return JSON.stringify(text.length > maxLength ? `${text.slice(0, maxLength)}…` : text);
}
