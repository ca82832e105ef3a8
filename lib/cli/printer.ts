/*
 * Formats events and messages for a terminal or a pipe.
 * Invariant: data from a server cannot control the terminal.
 * Invariant: what a full output has not taken is reported to the caller, which then reads no more.
 * Invariant: standard output contains only events (and the help, if asked for).
 */
import type { ParsedEvent } from '../http-client/event-reader.ts';
import type { Finding } from './diagnosis.ts';

/** An output such as `process.stdout`. */
export interface Output {
  /** Returns `false` if the output is full. It then emits `drain` as soon as it is not. */
  write(text: string): unknown;
  once?(event: 'drain', listener: () => void): unknown;
  readonly isTTY?: boolean;
}

const STYLES = { dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const;
type Style = keyof typeof STYLES;

/** Writes to the two outputs of a command. */
export class Printer {
  readonly #out: Output;
  readonly #err: Output;
  readonly #json: boolean;
  readonly #isPlain: boolean;
  #drained: Promise<void> | undefined;

  constructor(
    out: Output,
    err: Output,
    options: { readonly json: boolean; readonly env: Readonly<Record<string, string | undefined>> },
  ) {
    this.#out = out;
    this.#err = err;
    this.#json = options.json;
    // https://no-color.org: set and not empty
    this.#isPlain = Boolean(options.env['NO_COLOR']) || options.env['TERM'] === 'dumb';
  }

  /** Resolves when standard output accepts more; `undefined` if it does now. */
  get drained(): Promise<void> | undefined {
    return this.#drained;
  }

  /** Prints an event. */
  event({ event, id, data, lastEventId }: ParsedEvent, time: Date): void {
    if (this.#json) return this.#object({ time: time.toISOString(), event, id, lastEventId, data });
    const name = this.#paint(this.#out, event === 'message' ? 'green' : 'cyan', visible(event));
    const number = id === undefined ? '' : ` ${this.#paint(this.#out, 'blue', `#${visible(id)}`)}`;
    const start = `${this.#paint(this.#out, 'dim', timeOfDay(time))} ${name}${number}`;
    const lines = data.split('\n').map(visible);
    this.#write(lines.length === 1 ? `${start} ${lines[0]}\n` : `${[start, ...lines].join('\n  ')}\n`);
  }

  /** Prints a comment. */
  comment(text: string, time: Date): void {
    if (this.#json) return this.#object({ time: time.toISOString(), comment: text });
    this.#write(`${this.#paint(this.#out, 'dim', `${timeOfDay(time)} :${visible(text)}`)}\n`);
  }

  /** Prints a message about the connection, on standard error. */
  message(text: string, style: Style = 'dim'): void {
    this.#err.write(`${this.#paint(this.#err, style, visible(text))}\n`);
  }

  /** Prints the help, unchanged. */
  help(text: string): void {
    this.#out.write(text);
  }

  /** Prints a finding and its cure. */
  finding({ level, text, cure }: Finding): void {
    this.message(`${level}: ${text}`, level === 'wrong' ? 'red' : level === 'warning' ? 'yellow' : 'dim');
    if (cure !== '') this.message(`  ${cure}`);
  }

  #object(value: object): void {
    this.#write(`${JSON.stringify(value).replace(CONTROLS, escapeUnicode)}\n`); // JSON escapes only C0
  }

  #write(text: string): void {
    const out = this.#out;
    if (out.write(text) !== false || out.once === undefined) return;
    this.#drained ??= new Promise<void>((resolve) => out.once?.('drain', resolve)).then(() => {
      this.#drained = undefined;
    });
  }

  #paint(output: Output, style: Style, text: string): string {
    if (this.#isPlain || output.isTTY !== true) return text;
    return `\u001B[${STYLES[style]}m${text}\u001B[0m`;
  }
}

function timeOfDay(time: Date): string {
  const padded = (number: number): string => String(number).padStart(2, '0');
  const [hours, minutes, seconds] = [time.getHours(), time.getMinutes(), time.getSeconds()].map(padded);
  return `${hours}:${minutes}:${seconds}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}

/**
 * The characters that control a terminal: C0 except the tab, DEL, C1, and those that change the direction of text, with which
 * a line can show other text than it contains.
 */
// oxlint-disable-next-line no-control-regex
const CONTROLS = /[\x00-\x08\x0A-\x1F\x7F-\x9F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]/g;

/** Escapes control characters: an event must not be able to clear the screen or to set its title. */
function visible(text: string): string {
  return text.replace(CONTROLS, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : escapeUnicode(character);
  });
}

/** The escape of JSON. */
function escapeUnicode(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
