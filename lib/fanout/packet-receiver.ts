/*
 * Decides which entries a connection receives.
 *
 * Invariant: receivers of one group without a membership history receive the same entries, so they share packets.
 */

import type { Entry } from '../journal/journal.ts';
import type { MembershipHistory } from './membership-history.ts';
import type { SubscriberGroup } from './subscriber-groups.ts';

/** The properties of a connection that decide which packets it receives. */
export interface PacketReceiver {
  /** The connections that have joined the same channels. */
  readonly group: Pick<SubscriberGroup<unknown>, 'matches' | 'channels'> | undefined;
  /** The channels that it joined or left while it was behind; `undefined` if there are none, and then it shares packets. */
  readonly membership: MembershipHistory | undefined;
  /** Whether the ids of its client are the application's, so that its packets have none. */
  readonly usesAppIds: boolean;
}

/** Whether an entry is for this receiver. */
export function receives({ group, membership }: PacketReceiver, entry: Entry): boolean {
  return membership === undefined ? group!.matches(entry) : membership.matches(entry, group!.channels);
}
