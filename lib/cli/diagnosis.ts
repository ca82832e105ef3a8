/*
 * What a fresh look at an answer, and at when it arrived, finds wrong.
 * Knows the record of a connection and HTTP's headers; opens nothing and prints nothing.
 * Invariant: the same answer gives the same findings; each says what was seen, and what to do about it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { hopsOf } from './proxies.ts';
import type { Watch } from './arrival-log.ts';

/** One thing that was found. `wrong` breaks clients, `warning` breaks them somewhere or sometime, `note` is worth knowing. */
export interface Finding {
  readonly level: 'wrong' | 'warning' | 'note';
  readonly what: string;
  readonly cure: string;
}

/** The head of an answer. */
export interface Head {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
}

/** Proxies cut a connection that has been silent for this long: nginx, Apache, Varnish; HAProxy a little sooner. */
const MINUTE = 60_000;
/** Where it begins to be felt. */
const SLOW = 1000;

/** Everything that is wrong with the head alone. */
export function diagnoseHead({ status, headers }: Head): Finding[] {
  const found: Finding[] = [];
  if (status === 204)
    return [note('204: the server says that there will be no more; a browser does not come back', '')];
  if (status !== 200) {
    const what = `status ${status}: a browser gives up for good`;
    return [wrong(what, 'Answer 200; to send clients away for a while, answer 200 with retry: and end.')];
  }
  found.push(...typeFindings(headers['content-type']), ...cacheFindings(headers));
  if (headers['content-length'] !== undefined) {
    found.push(
      wrong(
        `Content-Length: ${headers['content-length']}: this is not a stream`,
        'Send no Content-Length with events.',
      ),
    );
  }
  const behindNginx = hopsOf(headers).some((hop) => hop.name === 'nginx');
  // nginx takes the header away as it obeys it, so behind nginx its absence says nothing.
  if (headers['x-accel-buffering'] !== 'no' && !behindNginx) {
    found.push(
      warning('no X-Accel-Buffering: no', 'Send it: behind an nginx with its default settings nothing would arrive.'),
    );
  }
  return found;
}

/** Everything that is wrong, the times of arrival included. `now` is in milliseconds since the request. */
export function diagnose(head: Head, watch: Watch, now: number): Finding[] {
  const found = diagnoseHead(head);
  if (head.status !== 200) return found;
  const { at, events } = watch;
  const held = heldBack(watch);
  if (held !== undefined) found.push(wrong(held, cureFor(head.headers)));
  const coding = head.headers['content-encoding'];
  if (coding !== undefined && coding !== 'identity') {
    const stuck = held !== undefined || (at.firstByte === undefined && now - (at.head ?? now) > SLOW);
    const cure = 'Flush after every event (res.flush() of compression), or send Cache-Control: no-transform.';
    found.push(
      stuck ? wrong(`compressed (${coding}) without a flush`, cure) : note(`compressed (${coding}), and flushed`, ''),
    );
  }
  if (at.head !== undefined && (at.firstByte ?? now) - at.head > SLOW) {
    const wait =
      at.firstByte === undefined
        ? 'no byte has come yet'
        : `the first byte came ${seconds(at.firstByte - at.head)} after the head`;
    found.push(
      warning(wait, 'Send a comment (:) at once: Firefox fires open only then, and it shows that nothing holds back.'),
    );
  }
  const silence = watch.longestSilence(now);
  if (silence >= MINUTE)
    found.push(
      wrong(
        `no byte for ${seconds(silence)}`,
        'Send a heartbeat every 15 seconds: proxies cut what is silent for 50 to 60.',
      ),
    );
  if (events > 0 && watch.ids === 0)
    found.push(note('no event had an id', 'A client that reconnects has lost what was sent meanwhile.'));
  return found;
}

/** What it means that not even a head has come, in so many milliseconds. */
export function diagnoseSilence(waited: number): Finding {
  const cure =
    'Send the head and a comment (:) at once. If the server does, something holds both back: an nginx with its default settings does; send X-Accel-Buffering: no.';
  return wrong(`no answer within ${seconds(waited)}`, cure);
}

/** The words for a hop that buffers, or nothing. */
function heldBack({ bunched, bursts, largest, opening }: Watch): string | undefined {
  if (largest !== undefined) {
    const often = bursts === 1 ? 'once' : `${bursts} times`;
    return `a gap came as a burst, ${often}: ${seconds(largest.silence)} of nothing, then ${largest.events} events (${largest.bytes} bytes) at once`;
  }
  if (bunched > 0) return 'heartbeats came several at once';
  if (opening !== undefined)
    return `nothing for ${seconds(opening.silence)}, then ${opening.events} events (${opening.bytes} bytes) with the opening`;
  return undefined;
}

function cureFor(headers: IncomingHttpHeaders): string {
  const hops = hopsOf(headers);
  const cures = hops.map(({ name, from, cure }) => `${name} (${from}): ${cure}`);
  if (cures.length === 0) {
    cures.push(
      'no hop says its name: look for compression without a flush in the server itself, or an HAProxy (option http-no-delay)',
    );
  }
  return `Something on the way buffers. ${cures.join(' · ')}`;
}

function typeFindings(type: string | undefined): Finding[] {
  if (type === undefined) return [wrong('no Content-Type', 'Send Content-Type: text/event-stream; charset=utf-8.')];
  const [essence = '', ...parameters] = type.split(';');
  if (essence.trim().toLowerCase() !== 'text/event-stream') {
    return [
      wrong(
        `Content-Type: ${type}`,
        'Send Content-Type: text/event-stream; charset=utf-8, and only once: browsers give up on anything else.',
      ),
    ];
  }
  const charset = parameters
    .map((parameter) => /^\s*charset\s*=\s*"?([^"]*)"?\s*$/i.exec(parameter)?.[1])
    .find((name) => name !== undefined);
  if (charset !== undefined && charset.toLowerCase() !== 'utf-8')
    return [wrong(`charset=${charset}`, 'Events are UTF-8; Chromium refuses another charset.')];
  if (essence !== 'text/event-stream') {
    return [
      warning(
        `Content-Type: ${type}`,
        'Write it in lower case and without a space before the semicolon: some clients compare it letter by letter.',
      ),
    ];
  }
  return [];
}

function cacheFindings(headers: IncomingHttpHeaders): Finding[] {
  const control = (headers['cache-control'] ?? '').toLowerCase();
  const directives = new Set(control.split(',').map((directive) => directive.trim().split('=')[0]));
  const cache = String(headers['x-cache'] ?? '');
  const cure = 'Send Cache-Control: private, no-cache, no-store, no-transform.';
  const found: Finding[] = [];
  if (Number(headers.age ?? 0) > 0 || /\bhit\b/i.test(cache)) {
    found.push(wrong(`this stream came out of a cache (Age: ${headers.age ?? '–'}, X-Cache: ${cache || '–'})`, cure));
  }
  if (!['no-store', 'no-cache', 'private'].some((directive) => directives.has(directive))) {
    const what = control === '' ? 'no Cache-Control' : `Cache-Control: ${control}`;
    found.push(wrong(`cacheable (${what}): a cache may give one client's stream to all others`, cure));
  }
  if (!directives.has('no-transform'))
    found.push(warning('no-transform is missing: a proxy may compress the stream and hold events back', cure));
  return found;
}

/** Milliseconds as people say them. */
export function seconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function wrong(what: string, cure: string): Finding {
  return { level: 'wrong', what, cure };
}

function warning(what: string, cure: string): Finding {
  return { level: 'warning', what, cure };
}

function note(what: string, cure: string): Finding {
  return { level: 'note', what, cure };
}
