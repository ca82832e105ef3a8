/*
 * Records which channels a connection joins and leaves while it is behind, and at which position of the log.
 *
 * Invariant: whether an entry is for the connection depends on the channels at the position of the entry, however often they have
 * changed since.
 */

import type { Entry } from '../journal/journal.ts';

/** The changes of one connection's channels while it is behind. */
export class MembershipHistory {
  readonly #compare: (a: string, b: string) => number;
  /** For each channel the id of the head at each of its changes. */
  readonly #changes = new Map<string, string[]>();

  constructor(compare: (a: string, b: string) => number) {
    this.#compare = compare;
  }

  /** Records that these channels were joined or left when `head` was the newest id. */
  record(channels: readonly string[], head: string): void {
    for (const channel of channels) {
      const ids = this.#changes.get(channel) ?? [];
      if (ids.at(-1) === head) ids.pop(); // two changes at one position cancel each other
      else ids.push(head);
      this.#changes.set(channel, ids);
    }
  }

  /** Whether an entry is for a connection that is now in these channels. No entry of a channel that it has left is. */
  matches({ id, to, except }: Entry, channels: ReadonlySet<string>): boolean {
    const wasIn = (channel: string): boolean => {
      const laterChanges = this.#changes.get(channel)?.filter((head) => this.#compare(id, head) <= 0).length ?? 0;
      return channels.has(channel) === (laterChanges % 2 === 0);
    };
    if (except?.some(wasIn)) return false;
    return to === undefined || to.some((channel) => channels.has(channel) && wasIn(channel));
  }

  /** Moves changes after `id` back to it: the log has lost the entries after `id`, and its new ones come after every change. */
  truncate(id: string): void {
    for (const [channel, ids] of this.#changes) {
      this.#changes.set(
        channel,
        ids.map((head) => (this.#compare(head, id) > 0 ? id : head)),
      );
    }
  }
}
