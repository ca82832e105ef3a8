/*
 * Entries of the log, as the servers and the comparison exchange them, and a clock that the processes share.
 */

/** An entry. A disconnect has the data {@link DISCONNECT}. */
export type Logged = readonly [id: string, data: string, to: string | null];

export const DISCONNECT = ':disconnect';

/** Returns the data of an entry's body; '' without data. */
export function dataOf(body: string): string {
  return body.startsWith(DISCONNECT) ? DISCONNECT : (/^data: (.*)$/m.exec(body)?.[1] ?? '');
}

/** Returns milliseconds of a clock that all processes of the machine share. */
export function clock(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}
