/*
 * Parses and checks the command line.
 * Invariant: the settings that parseArguments returns need no further check; each mistake throws a UsageError that names it.
 */
import { parseArgs, types } from 'node:util';

/** The settings of the `tail` command. */
export interface Settings {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly post: string | undefined;
  readonly lastEventId: string;
  readonly json: boolean;
  readonly heartbeats: boolean;
  readonly doctor: boolean;
  readonly reconnect: boolean;
  /** Number of events; `Infinity` without a limit. */
  readonly until: number;
  /** Milliseconds; `Infinity` without a limit. */
  readonly timeout: number;
}

/** The command line is not valid. */
export class UsageError extends Error {}

/** A minute of silence is a finding, because proxies then close the connection. The rest is a margin to see whether a heartbeat comes. */
const DOCTOR_SECONDS = 65;

export const USAGE = 'Usage: sse-router tail [options] URL';

export const HELP = `${USAGE}

Prints the server-sent events of URL as they arrive, reconnects as a browser does, and reports problems of the stream.
Events go to standard output, everything else to standard error.

Options
  -H, --header 'Name: value'  send this header; repeatable
      --post BODY             POST this body; as JSON if it is JSON and no Content-Type is given
                              (sent once: stops when the stream ends, because a POST may have an effect each time)
      --last-event-id ID      start after this event
      --json                  one JSON object a line: time, event, id, lastEventId, data
      --heartbeats            show comments as well
      --until N               stop after N events
      --timeout SECONDS       stop after this time
      --no-reconnect          stop when the stream ends
      --doctor                report at the end which proxy buffers and what is wrong with the response
                              (watches for ${DOCTOR_SECONDS} seconds unless --until or --timeout is given)
      --version               show the version
  -h, --help                  show this

Exit codes
  0    stopped as asked: the events of --until, the time of --timeout without --until, or the stream is over
  1    --until was not reached: the time was up, or the stream is over
  2    the command line is not valid
  3    the answer is not an event stream: a browser would give up here
  4    no connection, or no response before the time of --timeout
  5    --doctor found something wrong
  130  interrupted (143 when terminated)

NO_COLOR is respected; without a terminal there is no colour either.
`;

/** Returns the settings of a command line, or what it asks for instead. */
export function parseArguments(args: readonly string[]): Settings | 'help' | 'version' {
  const { values, positionals } = split(args);
  if (values.help) return 'help';
  if (values.version) return 'version';
  const [command, address, ...more] = positionals;
  if (command === undefined) throw new UsageError('No command was given.');
  if (command !== 'tail') throw invalid('The command', 'tail', command);
  if (address === undefined) throw new UsageError('No URL was given.');
  if (more.length > 0)
    throw invalid('The argument of tail', 'one URL', [address, ...more].map(withoutPassword).join(' '));
  const { doctor = false, json = false, heartbeats = false } = values;
  const until = values.until === undefined ? Infinity : parseNumber('--until', values.until);
  if (until !== Infinity && !Number.isInteger(until)) throw invalid('--until', 'a whole number', values.until);
  const defaultSeconds = doctor && until === Infinity ? DOCTOR_SECONDS : Infinity;
  return {
    url: parseUrl(address),
    headers: parseHeaders(values.header ?? []),
    post: values.post,
    lastEventId: parseLastEventId(values['last-event-id'] ?? ''),
    json,
    heartbeats,
    doctor,
    reconnect: !values['no-reconnect'],
    until,
    timeout: 1000 * (values.timeout === undefined ? defaultSeconds : parseNumber('--timeout', values.timeout)),
  };
}

function split(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        header: { type: 'string', short: 'H', multiple: true },
        post: { type: 'string' },
        'last-event-id': { type: 'string' },
        json: { type: 'boolean' },
        heartbeats: { type: 'boolean' },
        until: { type: 'string' },
        timeout: { type: 'string' },
        'no-reconnect': { type: 'boolean' },
        doctor: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new UsageError(types.isNativeError(error) ? error.message : String(error), { cause: error });
  }
}

function parseNumber(option: string, text: string): number {
  const number = Number(text);
  if (!(number > 0 && number < Infinity)) throw invalid(option, 'a number above 0', text);
  return number;
}

/** Hides what may be a password: the output of a command may be kept where passwords must not be. */
function withoutPassword(text: string): string {
  return text.replace(/^([^/]*\/\/)?.*@/s, '$1***@');
}

function parseUrl(text: string): URL {
  // `localhost:3000/events` alone would be a URL whose scheme is "localhost".
  const address = /^[a-z][a-z\d+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const shown = withoutPassword(text);
  if (!URL.canParse(address)) throw invalid('The URL', 'valid, as in http://localhost:3000/events', shown);
  const url = new URL(address);
  if (!/^https?:$/.test(url.protocol)) throw invalid('The URL', 'http: or https:', shown);
  if (!hasValidCredentials(url))
    throw invalid('The user and password of the URL', 'percent-encoded UTF-8, in which % itself is %25', shown);
  return url;
}

/** Whether the user and password of a URL can be decoded, as the header `Authorization` needs them. */
export function hasValidCredentials({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}

function parseLastEventId(id: string): string {
  // oxlint-disable-next-line no-control-regex
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(id)) throw invalid('--last-event-id', 'text without control characters', id);
  return id;
}

function parseHeaders(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const match = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (match === null) throw invalid('--header', "'Name: value'", line);
    const [, name = '', value = ''] = match;
    // oxlint-disable-next-line no-control-regex
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value))
      throw invalid(`The value of --header ${name}`, 'Latin-1 text without control characters', value);
    headers[name.toLowerCase()] = value;
  }
  return headers;
}

function invalid(name: string, expected: string, received: unknown): UsageError {
  return new UsageError(`${name} must be ${expected}; received ${JSON.stringify(received)}.`);
}
