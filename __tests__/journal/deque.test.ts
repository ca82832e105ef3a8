import { collectGarbage } from '../fixtures/garbage.ts';
import { Random, seedFrom } from '../fixtures/random.ts';
import { Deque } from '../../lib/journal/deque.ts';

const itemsOf = <T>(deque: Deque<T>): (T | undefined)[] =>
  Array.from({ length: deque.length }, (_, index) => deque.at(index));

test('a new deque is empty', () => {
  const deque = new Deque<number>();
  expect(deque.length).toBe(0);
  expect([deque.at(0), deque.shift(), deque.pop()]).toEqual([undefined, undefined, undefined]);
  expect(deque.length).toBe(0);
});

test('entries are counted from the front', () => {
  const deque = new Deque<string>();
  for (const item of ['a', 'b', 'c']) deque.push(item);
  expect(itemsOf(deque)).toEqual(['a', 'b', 'c']);
  expect(deque.shift()).toBe('a');
  expect(itemsOf(deque)).toEqual(['b', 'c']);
  expect(deque.pop()).toBe('c');
  expect(itemsOf(deque)).toEqual(['b']);
});

test('an index outside of the deque gives undefined, before and after entries were shifted out', () => {
  const deque = new Deque<number>();
  for (let n = 0; n < 5; n++) deque.push(n);
  expect([deque.at(-1), deque.at(5)]).toEqual([undefined, undefined]);
  deque.shift();
  deque.shift();
  expect([deque.at(-1), deque.at(-2), deque.at(3)]).toEqual([undefined, undefined, undefined]);
});

test('an emptied deque takes entries again, from pop and from shift alike', () => {
  const deque = new Deque<number>();
  deque.push(1);
  deque.push(2);
  deque.shift();
  deque.pop();
  expect([deque.length, deque.pop(), deque.shift()]).toEqual([0, undefined, undefined]);
  deque.push(3);
  expect(itemsOf(deque)).toEqual([3]);
});

test('prepend puts entries in front, in their order', () => {
  const deque = new Deque<number>();
  for (const n of [0, 4, 5]) deque.push(n);
  deque.shift();
  deque.prepend([2, 3]);
  deque.prepend([]);
  expect(itemsOf(deque)).toEqual([2, 3, 4, 5]);
  expect(deque.at(-1)).toBeUndefined();
});

test('clear removes everything', () => {
  const deque = new Deque<number>();
  for (let n = 0; n < 10; n++) deque.push(n);
  deque.shift();
  deque.clear();
  expect([deque.length, deque.at(0)]).toEqual([0, undefined]);
  deque.push(1);
  expect(itemsOf(deque)).toEqual([1]);
});

test('a deque behaves like an array over many thousands of random operations', () => {
  const deque = new Deque<number>();
  const model: number[] = [];
  const random = new Random(seedFrom('DEQUE_SEED'));
  for (let n = 0; n < 50_000; n++) {
    const operation = random.below(100);
    const isGrowing = Math.floor(n / 5000) % 2 === 0; // grows to thousands of entries, then shrinks, so that it is compacted
    if (operation === 0) {
      deque.prepend([n, n + 1]);
      model.unshift(n, n + 1);
    } else if (operation < 5) {
      expect(deque.pop()).toBe(model.pop());
    } else if (operation < (isGrowing ? 75 : 30)) {
      deque.push(n);
      model.push(n);
    } else {
      expect(deque.shift()).toBe(model.shift());
    }
    const index = random.below(model.length + 1);
    if (deque.length !== model.length || deque.at(index) !== model[index]) throw new Error(`differs at operation ${n}`);
  }
  expect(itemsOf(deque)).toEqual(model);
});

test('removed entries can be garbage collected', async () => {
  const deque = new Deque<object>();
  const removed: WeakRef<object>[] = [];
  const add = (): void => {
    const item = {};
    removed.push(new WeakRef(item));
    deque.push(item);
  };
  for (let n = 0; n < 100; n++) add();
  for (let n = 0; n < 50; n++) deque.shift();
  for (let n = 0; n < 50; n++) deque.pop();
  deque.push({});
  await collectGarbage();
  expect(removed.filter((item) => item.deref() !== undefined)).toEqual([]);
});
