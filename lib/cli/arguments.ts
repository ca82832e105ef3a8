/*
 * The command line: what was asked for, checked, or why it cannot be done.
 * Knows node:util's parseArgs.
 * Invariant: settings that leave this room need no further check; whatever is wrong is a UsageError that names it.
 */
import { parseArgs, types } from 'node:util';

/** What `tail` was asked to do. */
export interface Settings {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly post: string | undefined;
  readonly lastEventId: string;
  readonly json: boolean;
  readonly heartbeats: boolean;
  readonly doctor: boolean;
  readonly reconnect: boolean;
  readonly until: number;
  /** Milliseconds; `Infinity` without a limit. */
  readonly timeout: number;
}

/** The command line cannot be understood. */
export class UsageError extends Error {}

/** Half a minute more than nothing at all: long enough to see that a minute of silence is not broken by a heartbeat. */
const DOCTOR_SECONDS = 65;

export const USAGE = 'Usage: sse-router tail [options] URL';

export const HELP = `${USAGE}

Prints the server-sent events of URL as they arrive, reconnects as a browser does, and tells what is wrong on the way.
Events go to standard output, everything else to standard error.

Options
  -H, --header 'Name: value'  send this header; repeatable
      --post BODY             POST this body; as JSON if it is JSON and no Content-Type is given
      --last-event-id ID      start after this event
      --json                  one JSON object a line: time, event, id, lastEventId, data
      --heartbeats            show comments as well
      --until N               stop after N events
      --timeout SECONDS       stop after this time
      --no-reconnect          stop when the stream ends
      --doctor                tell at the end which hop buffers and what is wrong with the answer
                              (looks for ${DOCTOR_SECONDS} seconds unless --until or --timeout says otherwise)
  -h, --help                  show this

Exit codes
  0    stopped as asked: the events of --until, the time of --timeout without --until, or the stream is over
  1    --until was not reached: the time was up, or the stream is over
  2    the command line cannot be understood
  3    the answer is not an event stream: a browser would give up here
  4    no connection
  5    --doctor found something wrong
  130  interrupted (143 when terminated)

NO_COLOR is respected; without a terminal there is no colour either.
`;

/** What the command line says; `undefined` when it asks for help. */
export function settingsFrom(args: readonly string[]): Settings | undefined {
  const { values, positionals } = parsed(args);
  if (values.help) return undefined;
  const [command, address, ...more] = positionals;
  if (command === undefined) throw new UsageError('No command was given.');
  if (command !== 'tail') throw new UsageError(`Unknown command ${JSON.stringify(command)}: there is only "tail".`);
  if (address === undefined) throw new UsageError('No URL was given.');
  if (more.length > 0) throw new UsageError(`One URL at a time: ${JSON.stringify(more[0])} is one too many.`);
  const { doctor = false, json = false, heartbeats = false } = values;
  const until = values.until === undefined ? Infinity : numberFrom('--until', values.until);
  if (until !== Infinity && !Number.isInteger(until))
    throw new UsageError(`--until is a whole number, not ${values.until}.`);
  const unlimited = doctor && until === Infinity ? DOCTOR_SECONDS : Infinity;
  return {
    url: urlFrom(address),
    headers: headersFrom(values.header ?? []),
    post: values.post,
    lastEventId: values['last-event-id'] ?? '',
    json,
    heartbeats,
    doctor,
    reconnect: !values['no-reconnect'],
    until,
    timeout: 1000 * (values.timeout === undefined ? unlimited : numberFrom('--timeout', values.timeout)),
  };
}

function parsed(args: readonly string[]) {
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
      },
    });
  } catch (error) {
    throw new UsageError(types.isNativeError(error) ? error.message : String(error), { cause: error });
  }
}

function numberFrom(option: string, text: string): number {
  const number = Number(text);
  if (!(number > 0 && number < Infinity))
    throw new UsageError(`${option} is a number above 0, not ${JSON.stringify(text)}.`);
  return number;
}

function urlFrom(text: string): URL {
  // `localhost:3000/events` would be a URL whose scheme is "localhost".
  const address = /^[a-z][a-z\d+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(address)) throw new UsageError(`${JSON.stringify(text)} is not a URL.`);
  const url = new URL(address);
  if (!/^https?:$/.test(url.protocol)) throw new UsageError(`The URL is http: or https:, not ${url.protocol}`);
  return url;
}

function headersFrom(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const match = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (match === null) throw new UsageError(`--header is 'Name: value', not ${JSON.stringify(line)}.`);
    const [, name = '', value = ''] = match;
    // oxlint-disable-next-line no-control-regex
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value))
      throw new UsageError(`The value of --header ${name} has a character that no header can carry.`);
    headers[name.toLowerCase()] = value;
  }
  return headers;
}
