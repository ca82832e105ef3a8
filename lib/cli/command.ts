/*
 * The command as a whole: connects, prints, reconnects, stops, and reports the findings at the end.
 * Outputs, environment variables and the signal to stop are passed in.
 * Invariant: `run` settles with an exit code that HELP lists, whatever happens, and leaves nothing open.
 */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { types } from 'node:util';
import type { ParsedEvent } from '../http-client/event-reader.ts';
import { HELP, parseArguments, type Settings, USAGE, UsageError } from './arguments.ts';
import type { ArrivalLog } from './arrival-log.ts';
import { diagnose, diagnoseHead, diagnoseNoResponse, type Finding, formatDuration } from './diagnosis.ts';
import { type Output, Printer } from './printer.ts';
import { detectProxies } from './proxies.ts';
import { type Outcome, type ResponseHead, TailConnection, type TailListener } from './tail-connection.ts';

/** What a command uses of a process, or of a test. */
export interface Environment {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted with the name of a signal, or with `EPIPE` when the reader of the output has closed it. */
  readonly signal: AbortSignal;
}

const OK = 0;
const NOT_REACHED = 1;
const USAGE_ERROR = 2;
const NOT_A_STREAM = 3;
const NO_CONNECTION = 4;
const FOUND_WRONG = 5;
const SIGNAL_CODES: Readonly<Record<string, number>> = { SIGINT: 130, SIGTERM: 143, EPIPE: OK };

/** The delay before a reconnect if the server sends no `retry:`; Chromium's value. */
const DEFAULT_RETRY_MS = 3000;
/** The shortest delay, even with `retry: 0`. */
const MIN_RETRY_MS = 100;
/** The longest delay after failures, unless the server asks for a longer one. */
const MAX_BACKOFF_MS = 30_000;
/** A timer of Node with a longer delay fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** This share of the delay is added at random, so that many clients do not reconnect at the same moment. */
const JITTER = 0.25;
/** How many lines of a response that is not an event stream are shown. */
const MAX_TEXT_LINES = 20;

/** Runs `sse-router` with these arguments and returns the exit code. */
export async function run(args: readonly string[], environment: Environment): Promise<number> {
  const { stdout, stderr, env } = environment;
  try {
    const settings = parseArguments(args);
    if (typeof settings === 'object') return await new Tail(settings, environment).run();
    new Printer(stdout, stderr, { json: false, env }).help(settings === 'help' ? HELP : `${readVersion()}\n`);
    return OK;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    stderr.write(`sse-router: ${error.message}\n${USAGE}\nTry sse-router --help.\n`);
    return USAGE_ERROR;
  }
}

/** Returns the version of the package, from the `package.json` that is the nearest one above this file with a version. */
function readVersion(): string {
  for (let folder = new URL('..', import.meta.url), below = ''; folder.href !== below;) {
    const file = new URL('package.json', folder);
    const { version } = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version?: string }) : {};
    if (version !== undefined) return version;
    below = folder.href;
    folder = new URL('..', folder);
  }
  return 'unknown';
}

class Tail implements TailListener {
  readonly #settings: Settings;
  readonly #printer: Printer;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** By text, so that each finding is reported once, however often the stream reconnects. */
  readonly #findings = new Map<string, Finding>();
  #events = 0;
  #retry = DEFAULT_RETRY_MS;
  #failures = 0;
  #hasConnected = false;
  #hasResponse = false;
  #lastConnection: TailConnection | undefined;

  constructor(settings: Settings, { stdout, stderr, env, signal }: Environment) {
    this.#settings = settings;
    this.#printer = new Printer(stdout, stderr, { json: settings.json, env });
    this.#signal = this.#stop.signal;
    if (signal.aborted) this.#stop.abort(signal.reason);
    signal.addEventListener('abort', () => this.#stop.abort(signal.reason), { once: true });
  }

  async run(): Promise<number> {
    const { timeout, doctor, until } = this.#settings;
    const timer =
      timeout === Infinity ? undefined : setTimeout(() => this.#stop.abort('time'), Math.min(timeout, MAX_TIMER_MS));
    if (doctor && until === Infinity)
      this.#printer.message(`watching for ${formatDuration(timeout)}; interrupt to see the findings now`);
    try {
      const code = await this.#loop();
      return doctor ? this.#reportFindings(code) : code;
    } finally {
      clearTimeout(timer);
    }
  }

  onRedirect(to: URL): void {
    const shown = new URL(to);
    shown.username = shown.password = '';
    this.#printer.message(`redirected to ${shown.href}`);
  }

  onHead(head: ResponseHead, { milestones }: ArrivalLog): void {
    const type = head.headers['content-type'] ?? 'no content type';
    const [connected, received] = [milestones.connected ?? 0, milestones.head ?? 0].map(formatDuration);
    this.#hasResponse = true;
    this.#printer.message(`${head.status} ${type}, connected after ${connected}, head after ${received}`);
    for (const finding of diagnoseHead(head)) this.#addFinding(finding);
  }

  onEvent(event: ParsedEvent): void {
    if (this.#signal.aborted) return; // the chunk contained more events than --until asks for
    this.#printer.event(event, new Date());
    if (++this.#events >= this.#settings.until) this.#stop.abort('until');
  }

  onComment(text: string): void {
    if (this.#settings.heartbeats && !this.#signal.aborted) this.#printer.comment(text, new Date());
  }

  onRetry(milliseconds: number): void {
    this.#retry = milliseconds;
  }

  get drained(): Promise<void> | undefined {
    return this.#printer.drained;
  }

  async #loop(): Promise<number> {
    let { lastEventId } = this.#settings;
    for (;;) {
      const connection = new TailConnection({ ...this.#settings, lastEventId }, this);
      const outcome = await connection.run(this.#signal);
      ({ lastEventId } = connection);
      if (connection.head !== undefined) {
        this.#lastConnection = connection;
        for (const finding of diagnose(connection.head, connection.arrivals, connection.now()))
          this.#addFinding(finding);
      } else if (this.#signal.reason === 'time') this.#addFinding(diagnoseNoResponse(connection.now()));
      const code = this.#exitCodeAfter(outcome);
      if (code !== undefined) return code;
      await this.#waitToReconnect(outcome, lastEventId);
      if (this.#signal.aborted) return this.#exitCodeOfSignal();
    }
  }

  /** Returns the exit code if this was the last connection; `undefined` if another one follows. */
  #exitCodeAfter(outcome: Outcome): number | undefined {
    if (this.#signal.aborted) return this.#exitCodeOfSignal();
    if (outcome.kind === 'not-a-stream') {
      this.#printer.message('not an event stream: a browser would give up here', 'red');
      for (const line of outcome.text.split('\n').slice(0, MAX_TEXT_LINES)) this.#printer.message(`  ${line}`);
      return NOT_A_STREAM;
    }
    if (outcome.kind === 'no-response' && !this.#hasConnected) {
      this.#printer.message(`no connection: ${messageOf(outcome.error)}`, 'red');
      return NO_CONNECTION;
    }
    this.#failures = outcome.kind === 'no-response' ? this.#failures + 1 : 0;
    this.#hasConnected = true;
    if (outcome.kind === 'no-content') this.#printer.message('204: the server ends the stream for good');
    else {
      const { reconnect, post } = this.#settings;
      if (reconnect && post === undefined) return undefined;
      const end = outcome.kind === 'ended' ? 'ended by the server' : 'the connection broke';
      this.#printer.message(reconnect ? `${end}; a POST is not sent again` : end);
    }
    return this.#settings.until === Infinity ? OK : NOT_REACHED;
  }

  async #waitToReconnect(outcome: Outcome, lastEventId: string): Promise<void> {
    const retry = Math.max(this.#retry, MIN_RETRY_MS);
    const backoff = Math.max(retry, Math.min(retry * 2 ** this.#failures, MAX_BACKOFF_MS));
    const delay = Math.min(backoff * (1 + JITTER * Math.random()), MAX_TIMER_MS);
    const reason =
      { ended: 'ended by the server', 'no-response': 'no connection' }[outcome.kind as string] ??
      'the connection broke';
    const position = lastEventId === '' ? 'without an id' : `after id ${lastEventId}`;
    this.#printer.message(`${reason}; reconnecting in ${formatDuration(delay)}, ${position}`, 'yellow');
    await sleep(delay, undefined, { signal: this.#signal }).catch(() => {}); // aborted: the caller checks the signal
  }

  #exitCodeOfSignal(): number {
    const reason = String(this.#signal.reason);
    if (reason === 'until') return OK;
    if (reason === 'time' && !this.#hasResponse) {
      this.#printer.message('no response', 'red');
      return NO_CONNECTION;
    }
    if (reason === 'time') return this.#settings.until === Infinity ? OK : NOT_REACHED;
    return SIGNAL_CODES[reason] ?? NOT_REACHED;
  }

  /** Adds a finding. Without --doctor it is printed at once, unless it is a note. */
  #addFinding(finding: Finding): void {
    if (this.#findings.has(finding.text)) return;
    this.#findings.set(finding.text, finding);
    if (!this.#settings.doctor && finding.level !== 'note') this.#printer.finding(finding);
  }

  #reportFindings(code: number): number {
    if (this.#lastConnection?.head !== undefined)
      this.#reportConnection(this.#lastConnection.head, this.#lastConnection.arrivals);
    for (const finding of this.#findings.values()) this.#printer.finding(finding);
    const isWrong = [...this.#findings.values()].some(({ level }) => level === 'wrong');
    if (this.#findings.size === 0 && code <= NOT_REACHED) this.#printer.message('no problems found', 'green');
    const isUnanswered = code === NO_CONNECTION && this.#signal.reason === 'time'; // a finding too
    return isWrong && (code <= NOT_REACHED || isUnanswered) ? FOUND_WRONG : code;
  }

  #reportConnection({ headers }: ResponseHead, { milestones, events, bytes }: ArrivalLog): void {
    const times = Object.entries({
      connected: milestones.connected,
      head: milestones.head,
      'first byte': milestones.firstByte,
      'first event': milestones.firstEvent,
    }).map(([name, time]) => `${name} ${time === undefined ? 'never' : formatDuration(time)}`);
    const proxies = detectProxies(headers).map(({ name, header }) => `${name} (${header})`);
    this.#printer.message(times.join(' → '));
    this.#printer.message(`on the way: ${proxies.length === 0 ? 'no proxy that names itself' : proxies.join(', ')}`);
    this.#printer.message(`last connection: ${events} events, ${bytes} bytes`);
  }
}

/** An AggregateError (several addresses, all of them refused) has no message of its own. */
function messageOf(error: Error): string {
  const { errors = [error] } = error as Partial<AggregateError>;
  return errors.map((cause: unknown) => (types.isNativeError(cause) ? cause.message : String(cause))).join('; ');
}
