/*
 * How events, and what there is to say about them, look on a terminal or in a pipe.
 * Knows two outputs and what may be written to them.
 * Invariant: nothing that a server sends can steer the terminal; standard output holds events and nothing else.
 */
import type { ReceivedEvent } from '../testing/event.ts';
import type { Finding } from './diagnosis.ts';

/** Where to write: `process.stdout` and its like. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

const STYLES = { dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const;
type Style = keyof typeof STYLES;

/** The two outputs, and the look of what goes there. */
export class Printer {
  readonly #out: Output;
  readonly #err: Output;
  readonly #json: boolean;
  readonly #plain: boolean;

  constructor(
    out: Output,
    err: Output,
    options: { readonly json: boolean; readonly env: Readonly<Record<string, string | undefined>> },
  ) {
    this.#out = out;
    this.#err = err;
    this.#json = options.json;
    // https://no-color.org: set and not empty
    this.#plain = Boolean(options.env['NO_COLOR']) || options.env['TERM'] === 'dumb';
  }

  event({ event, id, data, lastEventId }: ReceivedEvent, time: Date): void {
    if (this.#json) return this.#object({ time: time.toISOString(), event, id, lastEventId, data });
    const name = this.#paint(this.#out, event === 'message' ? 'green' : 'cyan', visible(event));
    const number = id === undefined ? '' : ` ${this.#paint(this.#out, 'blue', `#${visible(id)}`)}`;
    const start = `${this.#paint(this.#out, 'dim', clock(time))} ${name}${number}`;
    const lines = data.split('\n').map(visible);
    this.#out.write(lines.length === 1 ? `${start} ${lines[0]}\n` : `${[start, ...lines].join('\n  ')}\n`);
  }

  comment(text: string, time: Date): void {
    if (this.#json) return this.#object({ time: time.toISOString(), comment: text });
    this.#out.write(`${this.#paint(this.#out, 'dim', `${clock(time)} :${visible(text)}`)}\n`);
  }

  /** Something that is worth knowing, on standard error. */
  say(text: string, style: Style = 'dim'): void {
    this.#err.write(`${this.#paint(this.#err, style, visible(text))}\n`);
  }

  /** Text that is meant as it is: the help. */
  page(text: string): void {
    this.#out.write(text);
  }

  finding({ level, what, cure }: Finding): void {
    this.say(`${level}: ${what}`, level === 'wrong' ? 'red' : level === 'warning' ? 'yellow' : 'dim');
    if (cure !== '') this.say(`  ${cure}`);
  }

  #object(value: object): void {
    this.#out.write(`${JSON.stringify(value)}\n`);
  }

  #paint(output: Output, style: Style, text: string): string {
    if (this.#plain || output.isTTY !== true) return text;
    return `\u001B[${STYLES[style]}m${text}\u001B[0m`;
  }
}

function clock(time: Date): string {
  const two = (number: number): string => String(number).padStart(2, '0');
  const [hours, minutes, seconds] = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two);
  return `${hours}:${minutes}:${seconds}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}

/** Control characters as escapes, tabs excepted: an event must not be able to clear the screen or to set its title. */
function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\x00-\x08\x0A-\x1F\x7F-\x9F]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}
