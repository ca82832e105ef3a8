/*
 * What a reader joins and leaves while it is behind, and when.
 * Knows the journal's entries and their order.
 * Invariant: an entry is judged by the channels of its own time, however often they have changed since.
 */

import type { Entry } from '../journal/journal.ts';

export class MembershipHistory {
  readonly #compare: (a: string, b: string) => number;
  /** For each channel, the head's id at each change. */
  readonly #changes = new Map<string, string[]>();

  constructor(compare: (a: string, b: string) => number) {
    this.#compare = compare;
  }

  /** These were joined or left when this was the newest id. */
  record(channels: readonly string[], head: string): void {
    for (const channel of channels) {
      const ids = this.#changes.get(channel) ?? [];
      if (ids.at(-1) === head) ids.pop(); // and back
      else ids.push(head);
      this.#changes.set(channel, ids);
    }
  }

  /** Whether an entry is for who is in these channels now; of a channel that it has left nothing more is. */
  matches({ id, to, except }: Entry, channels: ReadonlySet<string>): boolean {
    const wasIn = (channel: string): boolean => {
      const since = this.#changes.get(channel)?.filter((head) => this.#compare(id, head) <= 0).length ?? 0;
      return channels.has(channel) === (since % 2 === 0);
    };
    if (except?.some(wasIn)) return false;
    return to === undefined || to.some((channel) => channels.has(channel) && wasIn(channel));
  }

  /** The log has lost what came after `id`: what is newer there now comes after any change. */
  truncate(id: string): void {
    for (const [channel, ids] of this.#changes) {
      this.#changes.set(
        channel,
        ids.map((head) => (this.#compare(head, id) > 0 ? id : head)),
      );
    }
  }
}
