/*
 * What decides which entries a connection receives, and in which form.
 */

import type { Entry } from '../journal/journal.ts';
import type { MembershipHistory } from './membership-history.ts';
import type { SubscriberGroup } from './subscriber-groups.ts';

export interface PacketReceiver {
  /** The connections with the same channels. */
  readonly group: Pick<SubscriberGroup<unknown>, 'matches' | 'channels'> | undefined;
  /** The channels that it joined or left while it was behind; without any, it shares packets with its group. */
  readonly membership: MembershipHistory | undefined;
  /** Whether it gets entries without their ids. */
  readonly usesAppIds: boolean;
}

/** Whether an entry is for this receiver. */
export function wants({ group, membership }: PacketReceiver, entry: Entry): boolean {
  return membership === undefined ? group!.matches(entry) : membership.matches(entry, group!.channels);
}
