/*
 * The index of a segment gives each subscriber group the entries that are for it, and groups with the same entries one packet.
 * Random groups and entries are compared with a check of every entry for every group. SEGMENT_SEED repeats a test.
 */
import fc from 'fast-check';
import { Ring } from '../../lib/fanout/ring.ts';
import { SegmentIndex } from '../../lib/fanout/segment-index.ts';
import { SubscriberGroups } from '../../lib/fanout/subscriber-groups.ts';
import type { Entry } from '../../lib/journal/journal.ts';
import type { Packet } from '../../lib/wire/packet.ts';
import { seedFrom } from '../fixtures/random.ts';

const SEED = seedFrom('SEGMENT_SEED');

type Receivers = Pick<Entry, 'to' | 'except'>;

/** Returns the packets that the index gives to each member, and the number of yields of the build. */
function dispatch(members: readonly (readonly string[])[], receivers: readonly Receivers[]) {
  const groups = new SubscriberGroups<number>();
  for (const [member, channels] of members.entries()) groups.assign(member, undefined, channels);
  const ring = new Ring({ entries: 1e5, bytes: 1e9 }, (a, b) => Number(a) - Number(b));
  const from = ring.head;
  for (const [i, { to, except }] of receivers.entries())
    ring.push({ id: String(i), to, except, body: Buffer.from(`data: ${i}\n\n`) });
  const index = new SegmentIndex(ring, groups, from);
  const yields = [...index.build(ring.head)].length;
  const packets = new Map<number, Packet>();
  for (const group of index.receivers()) {
    const selection = index.take(group);
    if (selection === undefined) continue;
    const packet = selection.packet(false, group.only !== undefined && selection.groupCount === 1);
    for (const member of group.members) {
      expect(packets.has(member)).toBe(false);
      packets.set(member, packet!);
    }
  }
  return { packets, yields };
}

/** Returns the text of the entries that are for a member of these channels. */
function expectedText(channels: readonly string[], receivers: readonly Receivers[]): string {
  const isIn = (channel: string): boolean => channels.includes(channel);
  const isFor = ({ to, except }: Receivers): boolean => (to === undefined || to.some(isIn)) && !except?.some(isIn);
  return receivers.map((one, i) => (isFor(one) ? `data: ${i}\n\n` : '')).join('');
}

const channel = fc.integer({ min: 0, max: 14 }).map((n) => 'abcdefghijklmno'[n]!);
const someChannels = (max: number) => fc.uniqueArray(channel, { maxLength: max });
const receiversOf = fc.record({
  to: fc.option(fc.array(channel, { maxLength: 4 }), { nil: undefined }),
  except: fc.option(fc.array(channel, { maxLength: 2 }), { nil: undefined }),
});

test('each group receives the entries that are for it, in order', () => {
  const members = fc.array(someChannels(10), { minLength: 1, maxLength: 40 });
  const entries = fc.array(receiversOf, { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(members, entries, (channels, receivers) => {
      const { packets } = dispatch(channels, receivers);
      for (const [member, names] of channels.entries())
        expect(packets.get(member)?.payload.toString() ?? '').toBe(expectedText(names, receivers));
      // Members share a packet exactly if they receive the same classes; different entries never share one.
      const texts = new Map([...packets.values()].map((packet) => [packet, packet.payload.toString()]));
      expect(texts.size).toBeLessThanOrEqual(channels.length);
    }),
    { numRuns: 2000, seed: SEED },
  );
});

test('groups that receive the same entries share one packet', () => {
  const { packets } = dispatch([['a', 'b'], ['a', 'c'], ['d']], [{ to: ['a'], except: undefined }]);
  expect(packets.get(0)).toBe(packets.get(1));
  expect(packets.has(2)).toBe(false);
  const all = dispatch(
    [['a'], ['b'], ['b', 'c']],
    [
      { to: undefined, except: undefined },
      { to: ['a'], except: undefined },
    ],
  );
  expect(all.packets.get(1)).toBe(all.packets.get(2));
  expect(all.packets.get(0)?.entryCount).toBe(2);
});

test('a packet for one connection is a string with one character for each byte; a shared one is a Buffer', () => {
  const { packets } = dispatch(
    [['a'], ['b'], ['c']],
    [
      { to: ['a'], except: undefined },
      { to: ['b', 'c'], except: undefined },
    ],
  );
  expect(packets.get(0)?.chunk).toBe('9\r\ndata: 0\n\n\r\n');
  expect(packets.get(1)?.chunk).toBeInstanceOf(Buffer);
});

test('entries for others cost a group nothing: the index looks at each entry once', () => {
  const members = Array.from({ length: 5000 }, (_, n) => [`user:${n}`]);
  const receivers = Array.from({ length: 5000 }, (_, n) => ({ to: [`user:${n}`], except: undefined }));
  const { yields, packets } = dispatch(members, receivers);
  expect(yields).toBeLessThan(40); // of 256 steps each
  expect(packets.size).toBe(5000);
});
