/*
 * Appends of all runs of this process, in groups: one message to the server for all appends that arrived during the previous one.
 * Invariant: at most one group is under way. It is sent again until its outcome is known, and the server stores an append once.
 */
import { hexBytes, quoteText } from '../../../journal/postgres/sql-text.ts';

/** One append to one run. */
export interface Append {
  readonly key: string;
  readonly first: number;
  readonly chunks: readonly Uint8Array[];
}

type Result = 'stored' | 'refused';

interface PendingAppend extends Append {
  readonly bytes: number;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
}

const GROUP_APPENDS = 500;
const GROUP_BYTES = 4 * 1024 * 1024;

/** Groups appends. */
export class AppendGroups {
  /** Sends the arguments of one call of the function; resolves with one digit for each append. */
  readonly #send: (args: string) => Promise<string>;
  readonly #onStored: (keys: readonly string[]) => void;
  #waiting: PendingAppend[] = [];
  #isBusy = false;

  constructor(send: (args: string) => Promise<string>, onStored: (keys: readonly string[]) => void) {
    this.#send = send;
    this.#onStored = onStored;
  }

  append(append: Append): Promise<Result> {
    const bytes = append.chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...append, bytes, resolve, reject });
      // Appends of the same tick share a group.
      queueMicrotask(() => void this.#pump());
    });
  }

  async #pump(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#waiting.length > 0) {
      const group = this.#nextGroup();
      try {
        const results = await this.#send(argumentsOf(group)); // oxlint-disable-line no-await-in-loop -- one group after the other
        this.#onStored(group.map(({ key }) => key));
        for (const [i, { resolve }] of group.entries()) resolve(results[i] === '1' ? 'stored' : 'refused');
      } catch (error) {
        for (const { reject } of group) reject(error as Error);
      }
    }
    this.#isBusy = false;
  }

  /** In the order of their keys: two transactions that lock several runs lock them in one order, and do not block each other. */
  #nextGroup(): PendingAppend[] {
    let bytes = 0;
    const excess = this.#waiting.findIndex((each, i) => i >= GROUP_APPENDS || (bytes += each.bytes) > GROUP_BYTES);
    const group = this.#waiting.splice(0, excess < 0 ? this.#waiting.length : Math.max(1, excess));
    return group.sort((a, b) => (a.key < b.key ? -1 : 1));
  }
}

/** The appends of a group as SQL: what each is, and all chunks in one. */
function argumentsOf(group: readonly PendingAppend[]): string {
  let offset = 1; // SQL counts from 1
  const items = group.map(({ key, first, chunks, bytes }) => {
    const item = { k: key, f: first, o: offset, b: bytes, s: chunks.map(({ byteLength }) => byteLength) };
    offset += bytes;
    return item;
  });
  const bodies = Buffer.concat(group.flatMap(({ chunks }) => chunks));
  return `${quoteText(JSON.stringify(items))}, ${hexBytes(bodies)}`;
}
