/*
 * The ring of the newest entries, the packets of its ranges, and the outbox of a connection.
 */

import { Packet } from '../../lib/wire/packet.ts';
import { compareSequenceIds } from '../../lib/journal/sequence-id.ts';
import { SubscriberGroup } from '../../lib/fanout/subscriber-groups.ts';
import { PacketCache } from '../../lib/fanout/packet-cache.ts';
import { Ring, type RingLimits } from '../../lib/fanout/ring.ts';
import { Outbox } from '../../lib/connection/outbox.ts';
import type { Entry, JournalWindow } from '../../lib/journal/journal.ts';

const idOf = (n: number, log = 'abcdefghijkl'): string => `${log}-${n}`;
const entryOf = (n: number, size = 10, extra: Partial<Entry> = {}): Entry => ({
  id: idOf(n),
  body: Buffer.from(`data: ${n}${'.'.repeat(size)}\n\n`),
  ...extra,
});

function refill(ring: Ring, window: JournalWindow): void {
  ring.fill(window);
}

/** Makes a ring of the entries `from` to `to`, all of them settled. */
function ringOf(from: number, to: number, limits: Partial<RingLimits> = {}): Ring {
  const ring = new Ring({ entries: 100, bytes: 1_000_000, ...limits }, compareSequenceIds);
  const entries = Array.from({ length: to - from + 1 }, (_, index) => entryOf(from + index));
  refill(ring, { floor: idOf(from - 1), entries });
  return ring;
}

const idsIn = (ring: Ring): string[] => [...ring.ids()].reverse();
const idsOf = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => idOf(from + index));

describe('the ring', () => {
  test('finds its entries and the position before them, and compares ids as numbers', () => {
    const ring = ringOf(8, 12);
    expect(idsIn(ring)).toEqual(idsOf(7, 12));
    expect(ring.headId).toBe(idOf(12));
    for (let n = 7; n <= 12; n++) expect(ring.idAt(ring.find(idOf(n))!)).toBe(idOf(n));
    expect(ring.find(idOf(9))! - ring.find(idOf(8))!).toBe(1);
    expect(ring.find(idOf(10))! - ring.find(idOf(9))!).toBe(1);
    expect([ring.find(idOf(6)), ring.find(idOf(13))]).toEqual([undefined, undefined]);
    expect(ring.find(idOf(10, 'zyxwvutsrqpo'))).toBeUndefined(); // the same number in another log
  });

  test('of an empty log has the first position as its head', () => {
    const ring = ringOf(1, 0);
    expect(ring.headId).toBe(idOf(0));
    expect(ring.find(idOf(0))).toBe(ring.head);
    expect(ring.head).toBe(ring.first - 1);
    ring.push(entryOf(1));
    expect(ring.find(idOf(1))).toBe(ring.find(idOf(0))! + 1);
  });

  test('is limited by entries, and drops the oldest first', () => {
    const ring = ringOf(1, 0, { entries: 3 });
    for (let n = 1; n <= 5000; n++) {
      ring.push(entryOf(n));
      ring.settle(ring.head);
    }
    expect(idsIn(ring)).toEqual(idsOf(4997, 5000));
    expect(ring.at(ring.find(idOf(4999))!).id).toBe(idOf(4999));
  });

  test('is limited by bytes, counted exactly, and one large entry may empty it', () => {
    const ring = ringOf(1, 0, { bytes: 100 });
    for (let n = 1; n <= 9; n++) {
      ring.push(entryOf(n, 12)); // 21 bytes each
      ring.settle(ring.head);
    }
    expect(ring.bytes).toBe(84);
    expect(idsIn(ring)).toEqual(idsOf(5, 9));
    ring.push(entryOf(10, 1000));
    expect(ring.bytes).toBe(84 + 1000 + 10);
    ring.settle(ring.head);
    expect(ring.bytes).toBe(0);
    expect(idsIn(ring)).toEqual([idOf(10)]);
    ring.push(entryOf(11, 12));
    expect(ring.find(idOf(10))).toBe(ring.head - 1);
  });

  test('drops no entry that has not been settled', () => {
    const ring = ringOf(1, 2, { entries: 2 });
    const base = ring.head;
    for (let n = 3; n <= 10; n++) ring.push(entryOf(n));
    ring.settle(base);
    expect(ring.at(base + 1).id).toBe(idOf(3));
    ring.settle(base + 4);
    expect(ring.at(base + 5).id).toBe(idOf(7));
    ring.settle(ring.head);
    expect(idsIn(ring)).toEqual(idsOf(8, 10));
  });

  test('finds no id that the log has dropped, except for the head', () => {
    const ring = ringOf(1, 5);
    ring.push(entryOf(6));
    ring.trim(idOf(3));
    expect(idsOf(0, 6).map((id) => ring.find(id) !== undefined)).toEqual([
      false,
      false,
      false,
      false,
      true,
      true,
      true,
    ]);
    ring.trim(idOf(2)); // reported late
    expect(ring.find(idOf(4))).toBeDefined();
    ring.trim(idOf(6));
    expect(ring.find(idOf(6))).toBe(ring.head);
    expect(ring.find(idOf(5))).toBeUndefined();
    expect(ring.at(ring.head).id).toBe(idOf(6)); // it has not been settled yet
    ring.push(entryOf(7));
    expect(ring.find(idOf(6))).toBeUndefined(); // an entry after it would be missing now
    ring.trim(idOf(99)); // not in the ring
    expect(ring.find(idOf(7))).toBe(ring.head);
  });

  test('is truncated with its bytes, and continues with other entries', () => {
    const ring = ringOf(1, 6);
    const { bytes } = ringOf(1, 3);
    const n = ring.find(idOf(3))!;
    ring.truncate(n);
    expect([ring.head, ring.headId, ring.bytes]).toEqual([n, idOf(3), bytes]);
    ring.push({ ...entryOf(4), id: idOf(5) });
    expect(ring.find(idOf(4))).toBeUndefined();
    expect(ring.find(idOf(5))).toBe(n + 1);
    ring.truncate(ring.first - 1);
    expect(idsIn(ring)).toEqual([idOf(0)]);
    expect(ring.bytes).toBe(0);
  });

  test('never reuses a number after a restart', () => {
    const ring = ringOf(1, 4);
    const { head } = ring;
    refill(ring, { floor: idOf(0, 'zyxwvutsrqpo'), entries: [] });
    expect(ring.first - 1).toBeGreaterThan(head);
    expect(ring.idAt(head)).toBeUndefined();
    expect(ring.find(idOf(4))).toBeUndefined();
    expect(ring.bytes).toBe(0);
  });

  test('computes the end of one write: at least one entry, and not beyond the limit', () => {
    const ring = ringOf(1, 10);
    const from = ring.find(idOf(2))!;
    const size = ring.at(from + 1).body.byteLength;
    expect(ring.reach(from, ring.head, 1)).toBe(from + 1);
    expect(ring.reach(from, ring.head, size * 3)).toBe(from + 3);
    expect(ring.reach(from, from + 2, 1_000_000)).toBe(from + 2);
    expect(ring.reach(from, from, 1_000_000)).toBe(from);
  });
});

describe('the packet cache', () => {
  const receiver = (channels: string[], usesAppIds = false) => ({
    group: new SubscriberGroup(channels.join(), channels),
    membership: undefined,
    usesAppIds,
  });
  const textOf = (packet: Packet | undefined): string | undefined => packet?.payload.toString();

  test('makes one packet for all receivers that want the same entries', () => {
    const ring = ringOf(1, 0);
    for (let n = 1; n <= 4; n++) ring.push(entryOf(n, 0, n % 2 === 0 ? { to: ['even'] } : {}));
    const cache = new PacketCache(ring, true);
    const from = ring.first - 1;
    const all = cache.packet(receiver(['even']), from, ring.head)!;
    expect(cache.packet(receiver(['even', 'and more']), from, ring.head)).toBe(all);
    expect(textOf(all)).toBe([1, 2, 3, 4].map((n) => `id: ${idOf(n)}\ndata: ${n}\n\n`).join(''));
    expect(all.chunk.toString()).toBe(`${all.payload.length.toString(16)}\r\n${textOf(all)}\r\n`);
    const odd = cache.packet(receiver([]), from, ring.head)!;
    expect(textOf(odd)).toBe(`id: ${idOf(1)}\ndata: 1\n\nid: ${idOf(3)}\ndata: 3\n\n`);
    expect([all.entryCount, all.lastN, odd.entryCount, odd.lastN]).toEqual([4, ring.head, 2, ring.head - 1]);
    expect(cache.packet(receiver([]), ring.head - 1, ring.head)).toBeUndefined();
  });

  test('writes no ids for a receiver with ids of the application, and none with `history: false`', () => {
    const ring = ringOf(1, 2);
    const from = ring.first - 1;
    const bare = 'data: 1..........\n\ndata: 2..........\n\n';
    expect(textOf(new PacketCache(ring, true).packet(receiver([], true), from, ring.head))).toBe(bare);
    expect(textOf(new PacketCache(ring, false).packet(receiver([]), from, ring.head))).toBe(bare);
  });

  test('makes new packets after the ring was truncated', () => {
    const ring = ringOf(1, 3);
    const cache = new PacketCache(ring, true);
    const from = ring.head - 1;
    const before = textOf(cache.packet(receiver([]), from, ring.head));
    ring.truncate(from);
    cache.clear();
    ring.push(entryOf(4));
    expect(textOf(cache.packet(receiver([]), from, ring.head))).not.toBe(before);
    expect(cache.entries(from, ring.head).map(({ id }) => id)).toEqual([idOf(4)]);
  });
});

describe('the outbox', () => {
  const takeAll = (outbox: Outbox): [number, string][] => {
    const all: [number, string][] = [];
    for (let { nextPosition: at } = outbox; at !== undefined; { nextPosition: at } = outbox)
      all.push([at, String(outbox.take())]);
    return all;
  };

  test('joins texts of one position, and keeps the order of positions', () => {
    const outbox = new Outbox();
    outbox.add('a', 3);
    outbox.add('b', 3);
    outbox.add('c', 5);
    expect(outbox.size).toBe(3);
    expect(takeAll(outbox)).toEqual([
      [3, 'ab'],
      [5, 'c'],
    ]);
    expect(outbox.size).toBe(0);
  });

  test('keeps the order of texts that precede all others', () => {
    const outbox = new Outbox();
    outbox.add('own', 7);
    outbox.addFirst('reset 1');
    outbox.addFirst('reset 2');
    expect(takeAll(outbox)).toEqual([
      [0, 'reset 1'],
      [0, 'reset 2'],
      [7, 'own'],
    ]);
  });

  test('counts sealed texts in bytes', () => {
    const outbox = new Outbox();
    outbox.add('é…💥', 1);
    outbox.seal();
    expect(outbox.size).toBe(Buffer.byteLength('é…💥'));
    outbox.add('x', 1);
    expect(takeAll(outbox).map(([, text]) => text)).toEqual(['é…💥', 'x']);
  });

  test('moves texts back to the last entry that is still in the log', () => {
    const outbox = new Outbox();
    outbox.add('a', 4);
    outbox.add('b', 9);
    outbox.truncate(5);
    outbox.add('c', 6);
    expect(takeAll(outbox)).toEqual([
      [4, 'a'],
      [5, 'b'],
      [6, 'c'],
    ]);
  });
});
