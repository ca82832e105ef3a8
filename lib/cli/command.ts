/*
 * The command as a whole: connect, print, come back, stop, and say at the end what was found.
 * Knows the other rooms of this folder; its surroundings (outputs, environment, the signal to stop) are handed in.
 * Invariant: settles with an exit code of HELP's list, whatever happens, and leaves nothing open.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { types } from 'node:util';
import { diagnose, diagnoseHead, diagnoseSilence, type Finding, type Head, seconds } from './diagnosis.ts';
import { hopsOf } from './proxies.ts';
import { type Output, Printer } from './printer.ts';
import { HELP, type Settings, settingsFrom, USAGE, UsageError } from './arguments.ts';
import { type Outcome, Visit, type Visitor } from './tail-connection.ts';
import type { Watch } from './arrival-log.ts';

/** What surrounds a command: a process, or a test. */
export interface Surroundings {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted with the name of a signal, or with `EPIPE` when nobody reads any more. */
  readonly signal: AbortSignal;
}

const OK = 0;
const NOT_REACHED = 1;
const USAGE_ERROR = 2;
const NOT_A_STREAM = 3;
const NO_CONNECTION = 4;
const UNWELL = 5;
const SIGNALS: Readonly<Record<string, number>> = { SIGINT: 130, SIGTERM: 143, EPIPE: OK };

/** What browsers wait when the server has not said; Chromium's value. */
const RETRY = 3000;
/** No server is asked more often than this, not even with `retry: 0`. */
const SHORTEST_WAIT = 100;
/** The longest wait after failures, unless the server asks for a longer one. */
const LONGEST_WAIT = 30_000;
/** Timers of Node fire at once when they are set to more. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** So much of the wait is added at random, so that many readers do not come back in the same moment. */
const JITTER = 0.25;

/** Runs `sse-router` with these arguments. */
export async function run(args: readonly string[], surroundings: Surroundings): Promise<number> {
  const { stdout, stderr, env } = surroundings;
  try {
    const settings = settingsFrom(args);
    if (settings !== undefined) return await new Tail(settings, surroundings).run();
    new Printer(stdout, stderr, { json: false, env }).page(HELP);
    return OK;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    stderr.write(`sse-router: ${error.message}\n${USAGE}\nTry sse-router --help.\n`);
    return USAGE_ERROR;
  }
}

class Tail implements Visitor {
  readonly #settings: Settings;
  readonly #printer: Printer;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #found = new Map<string, Finding>();
  #events = 0;
  #retry = RETRY;
  #failures = 0;
  #answered = false;
  #last: Visit | undefined;

  constructor(settings: Settings, { stdout, stderr, env, signal }: Surroundings) {
    this.#settings = settings;
    this.#printer = new Printer(stdout, stderr, { json: settings.json, env });
    this.#signal = this.#stop.signal;
    if (signal.aborted) this.#stop.abort(signal.reason);
    signal.addEventListener('abort', () => this.#stop.abort(signal.reason), { once: true });
  }

  async run(): Promise<number> {
    const { timeout, doctor, until } = this.#settings;
    const timer =
      timeout === Infinity ? undefined : setTimeout(() => this.#stop.abort('time'), Math.min(timeout, LONGEST_TIMER));
    if (doctor && until === Infinity)
      this.#printer.say(`looking for ${seconds(timeout)}; interrupt for a verdict at once`);
    try {
      const code = await this.#comeAndGo();
      return doctor ? this.#verdict(code) : code;
    } finally {
      clearTimeout(timer);
    }
  }

  redirected(to: URL): void {
    this.#printer.say(`redirected to ${to.href}`);
  }

  head(head: Head, { at }: Watch): void {
    const type = head.headers['content-type'] ?? 'no content type';
    this.#printer.say(
      `${head.status} ${type}, connected after ${seconds(at.connected ?? 0)}, head after ${seconds(at.head ?? 0)}`,
    );
    for (const finding of diagnoseHead(head)) this.#find(finding);
  }

  event(event: Parameters<Printer['event']>[0]): void {
    if (this.#signal.aborted) return; // more came in the same chunk than was asked for
    this.#printer.event(event, new Date());
    if (++this.#events >= this.#settings.until) this.#stop.abort('until');
  }

  comment(text: string): void {
    if (this.#settings.heartbeats && !this.#signal.aborted) this.#printer.comment(text, new Date());
  }

  retry(milliseconds: number): void {
    this.#retry = milliseconds;
  }

  async #comeAndGo(): Promise<number> {
    let { lastEventId } = this.#settings;
    for (;;) {
      const visit = new Visit({ ...this.#settings, lastEventId }, this);
      // oxlint-disable-next-line no-await-in-loop
      const outcome = await visit.run(this.#signal);
      ({ lastEventId } = visit);
      if (visit.head !== undefined) {
        this.#last = visit;
        for (const finding of diagnose(visit.head, visit.watch, visit.now())) this.#find(finding);
      } else if (this.#signal.reason === 'time') this.#find(diagnoseSilence(visit.now()));
      const code = this.#codeOf(outcome);
      if (code !== undefined) return code;
      // oxlint-disable-next-line no-await-in-loop
      await this.#wait(outcome, lastEventId);
      if (this.#signal.aborted) return this.#stopped();
    }
  }

  /** The exit code when this was the last connection; nothing when there will be another. */
  #codeOf(outcome: Outcome): number | undefined {
    if (this.#signal.aborted) return this.#stopped();
    if (outcome.kind === 'refused') {
      this.#printer.say('not an event stream: a browser would give up here', 'red');
      for (const line of outcome.text.split('\n').slice(0, 20)) this.#printer.say(`  ${line}`);
      return NOT_A_STREAM;
    }
    if (outcome.kind === 'failed' && !this.#answered) {
      this.#printer.say(`no connection: ${reason(outcome.error)}`, 'red');
      return NO_CONNECTION;
    }
    this.#failures = outcome.kind === 'failed' ? this.#failures + 1 : 0;
    this.#answered = true;
    if (outcome.kind === 'over') this.#printer.say('204: the server says that there will be no more');
    else if (this.#settings.reconnect) return undefined;
    else this.#printer.say(outcome.kind === 'end' ? 'ended by the server' : 'the connection broke');
    return this.#settings.until === Infinity ? OK : NOT_REACHED;
  }

  async #wait(outcome: Outcome, lastEventId: string): Promise<void> {
    const retry = Math.max(this.#retry, SHORTEST_WAIT);
    const patience = Math.max(retry, Math.min(retry * 2 ** this.#failures, LONGEST_WAIT));
    const delay = Math.min(patience * (1 + JITTER * Math.random()), LONGEST_TIMER);
    const what =
      { end: 'ended by the server', failed: 'no connection' }[outcome.kind as string] ?? 'the connection broke';
    const how = lastEventId === '' ? 'without an id' : `after id ${lastEventId}`;
    this.#printer.say(`${what}; back in ${seconds(delay)}, ${how}`, 'yellow');
    await sleep(delay, undefined, { signal: this.#signal }).catch(() => {}); // aborted: the caller looks
  }

  #stopped(): number {
    const why = String(this.#signal.reason);
    if (why === 'until') return OK;
    if (why === 'time') return this.#settings.until === Infinity ? OK : NOT_REACHED;
    return SIGNALS[why] ?? NOT_REACHED;
  }

  /** Each finding once, however often the stream came back; without --doctor, at once and without the notes. */
  #find(finding: Finding): void {
    if (this.#found.has(finding.what)) return;
    this.#found.set(finding.what, finding);
    if (!this.#settings.doctor && finding.level !== 'note') this.#printer.finding(finding);
  }

  #verdict(code: number): number {
    if (this.#last?.head !== undefined) this.#summary(this.#last.head, this.#last.watch);
    for (const finding of this.#found.values()) this.#printer.finding(finding);
    const unwell = [...this.#found.values()].some(({ level }) => level === 'wrong');
    if (this.#found.size === 0 && code <= NOT_REACHED) this.#printer.say('nothing to complain about', 'green');
    return unwell && code <= NOT_REACHED ? UNWELL : code;
  }

  #summary({ headers }: Head, { at, events, bytes }: Watch): void {
    const milestones = Object.entries({
      connected: at.connected,
      head: at.head,
      'first byte': at.firstByte,
      'first event': at.firstEvent,
    }).map(([name, when]) => `${name} ${when === undefined ? 'never' : seconds(when)}`);
    const hops = hopsOf(headers).map(({ name, from }) => `${name} (${from})`);
    this.#printer.say(milestones.join(' → '));
    this.#printer.say(`on the way: ${hops.length === 0 ? 'nobody that says its name' : hops.join(', ')}`);
    this.#printer.say(`last connection: ${events} events, ${bytes} bytes`);
  }
}

/** An AggregateError (several addresses, all refused) has no message of its own. */
function reason(error: Error): string {
  const { errors = [error] } = error as Partial<AggregateError>;
  return errors.map((cause: unknown) => (types.isNativeError(cause) ? cause.message : String(cause))).join('; ');
}
