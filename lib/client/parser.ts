/*
 * The text of an event stream becomes frames, by the standard, in whatever pieces it arrives.
 * A block that only sets the id becomes a frame without an event, so the position is never lost.
 * Only an event with an id of its own can be the router's `end` or `checkpoint`: another server's has its plain meaning.
 *
 * [spec] https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */

import type { Frame } from './source.ts';

// `sse-router:end` ends a connection, `<n>~end` ends a run.
const END_ID = /^sse-router:end$|~end$/;

/**
 * Makes the parser of one connection: a function that takes the next piece of text, and returns the frames that it completes.
 * `position` is the id with which the client connected. `onHint` is called with the ms of a `retry`, and without for a comment.
 */
export function makeParser(position: string, onHint: (retry?: number) => void): (text: string) => Frame[] {
  let partialLine = '';
  let endsWithCR = false;
  let isEnd = false;
  let block: Record<string, string> = {};

  function takeField(line: string): void {
    const [, field, value] = /^([^:]*):? ?([^]*)/.exec(line) as unknown as [string, string, string];
    if (!field) onHint();
    else if (field === 'retry') {
      // Not Infinity, after which no request would follow, and never a loop without a delay.
      if (/^\d{1,15}$/.test(value)) onHint(+value || 1);
    } else if (field !== 'id' || !value.includes('\0')) {
      block[field] = field === 'data' && 'data' in block ? `${block.data}\n${value}` : value;
    }
  }

  function takeBlock(frames: Frame[]): void {
    const { event, data, id } = block;
    const before = position;
    isEnd = event === 'end' && 'data' in block && END_ID.test(id!);
    if (!isEnd) position = id ?? position; // the router answers 204 to the id of an `end`
    if ('data' in block && (event !== 'checkpoint' || data || !id)) {
      frames.push({ event: event || 'message', data: data!, id: position, isEnd });
    } else if (position !== before) frames.push({ event: '', data: '', id: position, isEnd });
    block = {};
  }

  return (text) => {
    const frames: Frame[] = [];
    const isCut = endsWithCR && text.startsWith('\n'); // a CR LF in two pieces is one line end
    if (text) endsWithCR = text.endsWith('\r');
    if (isCut) text = text.slice(1);
    // Only the new text is searched, or a line of 10 MB in pieces of 64 KB would be searched 160 times.
    const lines = text.split(/\r\n?|\n/);
    lines[0] = partialLine + lines[0];
    partialLine = lines.pop()!;
    for (const line of lines) {
      if (line) takeField(line);
      else if (!isEnd) takeBlock(frames);
    }
    return frames;
  };
}
