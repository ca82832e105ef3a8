/*
 * A second implementation of the standard: a parser that follows it step by step, and a linter that is stricter than it.
 * It shares no code with the package, nor with the parser of `sse-router/testing`.
 */

export interface OracleEvent {
  readonly type: string;
  readonly data: string;
  readonly lastEventId: string;
}

/**
 * Parses a stream of UTF-8. [spec] "Interpreting an event stream", step by step.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export function oracle(stream: string): { events: OracleEvent[]; retries: number[] } {
  const events: OracleEvent[] = [];
  const retries: number[] = [];
  let [data, type, id, lastEventId] = ['', '', '', ''];
  const lines = stream.replace(/^\uFEFF/, '').split(/\r\n|\r|\n/);
  lines.pop(); // a line without its end is not processed
  for (const line of lines) {
    if (line === '') {
      lastEventId = id;
      if (data !== '') events.push({ type: type || 'message', data: data.slice(0, -1), lastEventId });
      [data, type] = ['', ''];
      continue;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
    if (name === 'event') type = value;
    else if (name === 'data') data += `${value}\n`;
    else if (name === 'id' && !value.includes('\0')) id = value;
    else if (name === 'retry' && /^[0-9]+$/.test(value)) retries.push(Number(value));
  }
  return { events, retries };
}

/** Returns what is wrong with a stream: it must have only known fields, in the router's order, LF only, each event whole and with data. */
export function lint(text: string): string[] {
  const faults: string[] = [];
  if (text.includes('\r')) faults.push('a CR');
  if (text.startsWith('\uFEFF')) faults.push('a byte order mark');
  const blocks = text.split('\n\n');
  const rest = blocks.pop()!; // only comments and a lone retry may follow the last event or precede an event
  for (const block of blocks) {
    const event = block.replace(/^(?:(?::[^\n]*|retry: [0-9]+)\n)*/, '');
    if (!/^(id: [^\n]*\n)?(event: [^\n]*\n)?(retry: [0-9]+\n)?(data: [^\n]*\n)*data: [^\n]*$/.test(event)) {
      faults.push(`the block ${JSON.stringify(block.slice(0, 500))}`);
    }
  }
  if (!/^(?:(?::[^\n]*|retry: [0-9]+)\n)*$/.test(rest)) faults.push(`the rest ${JSON.stringify(rest.slice(0, 500))}`);
  return faults;
}
