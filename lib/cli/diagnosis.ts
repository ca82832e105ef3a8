/*
 * Finds what is wrong with a response: with its headers, and with the times at which its bytes arrived.
 * Invariant: the same response gives the same findings; each names what was observed and the cure.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { ArrivalLog } from './arrival-log.ts';
import { detectProxies } from './proxies.ts';
import type { ResponseHead } from './tail-connection.ts';

/** One finding. `wrong` breaks clients; `warning` breaks some clients, or breaks them at some time; `note` is information. */
export interface Finding {
  readonly level: 'wrong' | 'warning' | 'note';
  readonly text: string;
  readonly cure: string;
}

/** nginx, Apache and Varnish close a connection that has been silent for this long; HAProxy closes it a little sooner. */
const PROXY_TIMEOUT_MS = 60_000;
/** A user notices a delay longer than this. */
const SLOW_MS = 1000;
/** An event that comes in two pieces once may be due to a lost packet. */
const MIN_CUT_EVENTS = 2;

/** Returns everything that is wrong with the head alone. */
export function diagnoseHead({ status, headers }: ResponseHead): Finding[] {
  const findings: Finding[] = [];
  if (status === 204) return [note('204: the server ends the stream for good; a browser does not reconnect', '')];
  if (status !== 200) {
    const text = `status ${status}: a browser gives up for good`;
    return [wrong(text, 'Answer 200; to send clients away for a while, answer 200 with retry: and end.')];
  }
  findings.push(...diagnoseType(headers['content-type']), ...diagnoseCaching(headers));
  if (headers['content-length'] !== undefined) {
    findings.push(
      wrong(
        `Content-Length: ${headers['content-length']}: this is not a stream`,
        'Send no Content-Length with events.',
      ),
    );
  }
  const isBehindNginx = detectProxies(headers).some(({ name }) => name === 'nginx');
  // nginx removes the header when it obeys it, so behind nginx a missing header means nothing.
  if (headers['x-accel-buffering'] !== 'no' && !isBehindNginx) {
    findings.push(
      warning('no X-Accel-Buffering: no', 'Send it: behind an nginx with its default settings nothing would arrive.'),
    );
  }
  return findings;
}

/** Returns everything that is wrong, the times of arrival included. `now` is in milliseconds since the request. */
export function diagnose(head: ResponseHead, arrivals: ArrivalLog, now: number): Finding[] {
  const findings = diagnoseHead(head);
  if (head.status !== 200) return findings;
  const { milestones, events } = arrivals;
  const buffering = bufferingOf(arrivals);
  if (buffering !== undefined) findings.push(wrong(buffering, bufferingCure(head.headers)));
  const burst = burstOf(arrivals);
  if (burst !== undefined && buffering === undefined) findings.push(note(burst, burstCure(head.headers)));
  const encoding = head.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    const isStuck =
      buffering !== undefined || (milestones.firstByte === undefined && now - (milestones.head ?? now) > SLOW_MS);
    const cure = 'Flush after every event (res.flush() of compression), or send Cache-Control: no-transform.';
    findings.push(
      isStuck
        ? wrong(`compressed (${encoding}) without a flush`, cure)
        : note(`compressed (${encoding}), and flushed`, ''),
    );
  }
  if (milestones.head !== undefined && (milestones.firstByte ?? now) - milestones.head > SLOW_MS) {
    const text =
      milestones.firstByte === undefined
        ? 'no byte has come yet'
        : `the first byte came ${formatDuration(milestones.firstByte - milestones.head)} after the head`;
    findings.push(
      warning(text, 'Send a comment (:) at once: Firefox fires open only then, and it shows that nothing buffers.'),
    );
  }
  const silence = arrivals.longestSilence(now);
  if (silence >= PROXY_TIMEOUT_MS)
    findings.push(
      wrong(
        `no byte for ${formatDuration(silence)}`,
        'Send a heartbeat every 15 seconds: proxies close a connection that is silent for 50 to 60.',
      ),
    );
  if (events > 0 && arrivals.ids === 0)
    findings.push(note('no event had an id', 'A client that reconnects misses what was sent meanwhile.'));
  return findings;
}

/** Returns the finding for a server whose head has not come in so many milliseconds. */
export function diagnoseNoResponse(waited: number): Finding {
  const cure =
    'Send the head and a comment (:) at once. If the server does, a proxy holds both back: an nginx with its default settings does; send X-Accel-Buffering: no.';
  return wrong(`no answer within ${formatDuration(waited)}`, cure);
}

/** Returns how the arrivals prove that something buffers; `undefined` if they do not. */
function bufferingOf({ bunchedHeartbeats, cutEvents }: ArrivalLog): string | undefined {
  if (bunchedHeartbeats > 0) return 'several heartbeats came at once';
  if (cutEvents < MIN_CUT_EVENTS) return undefined;
  return `events came in pieces, ${cutEvents} times: several events and a part of one, then the rest of it after a silence`;
}

/** Returns the burst that may come from a buffer, or from an application that sends several events in one tick. */
function burstOf({ bursts, largestBurst, openingBurst }: ArrivalLog): string | undefined {
  if (largestBurst !== undefined) {
    const { silence, events, bytes } = largestBurst;
    const count = bursts === 1 ? 'once' : `${bursts} times`;
    return `a burst after a silence, ${count}: no byte for ${formatDuration(silence)}, then ${events} events (${bytes} bytes) at once`;
  }
  if (openingBurst === undefined) return undefined;
  const { silence, events, bytes } = openingBurst;
  return `no byte for ${formatDuration(silence)}, then ${events} events (${bytes} bytes) with the opening`;
}

function burstCure(headers: IncomingHttpHeaders): string {
  return `If the application does not send these events at the same moment, something buffers. ${curesOf(headers)}`;
}

function bufferingCure(headers: IncomingHttpHeaders): string {
  return `Something between server and client buffers. ${curesOf(headers)}`;
}

function curesOf(headers: IncomingHttpHeaders): string {
  const cures = detectProxies(headers).map(({ name, header, cure }) => `${name} (${header}): ${cure}`);
  if (cures.length > 0) return cures.join(' · ');
  return 'No header names a proxy: look for compression without a flush in the server itself, or an HAProxy (option http-no-delay)';
}

function diagnoseType(type: string | undefined): Finding[] {
  if (type === undefined) return [wrong('no Content-Type', 'Send Content-Type: text/event-stream; charset=utf-8.')];
  const [essence = '', ...parameters] = type.split(';');
  if (essence.trim().toLowerCase() !== 'text/event-stream') {
    return [
      wrong(
        `Content-Type: ${type}`,
        'Send Content-Type: text/event-stream; charset=utf-8, and only once: browsers give up on any other type.',
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

function diagnoseCaching(headers: IncomingHttpHeaders): Finding[] {
  const control = (headers['cache-control'] ?? '').toLowerCase();
  const directives = new Set(control.split(',').map((directive) => directive.trim().split('=')[0]));
  const cache = String(headers['x-cache'] ?? '');
  const cure = 'Send Cache-Control: private, no-cache, no-store, no-transform.';
  const findings: Finding[] = [];
  if (Number(headers.age ?? 0) > 0 || /\bhit\b/i.test(cache)) {
    findings.push(
      wrong(`this stream came out of a cache (Age: ${headers.age ?? '–'}, X-Cache: ${cache || '–'})`, cure),
    );
  }
  if (!['no-store', 'no-cache', 'private'].some((directive) => directives.has(directive))) {
    const text = control === '' ? 'no Cache-Control' : `Cache-Control: ${control}`;
    findings.push(wrong(`cacheable (${text}): a cache may give one client's stream to all others`, cure));
  }
  if (!directives.has('no-transform'))
    findings.push(warning('no-transform is missing: a proxy may compress the stream and hold events back', cure));
  return findings;
}

/** Formats milliseconds for a person: `20 ms`, `1.5 s`. */
export function formatDuration(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function wrong(text: string, cure: string): Finding {
  return { level: 'wrong', text, cure };
}

function warning(text: string, cure: string): Finding {
  return { level: 'warning', text, cure };
}

function note(text: string, cure: string): Finding {
  return { level: 'note', text, cure };
}
