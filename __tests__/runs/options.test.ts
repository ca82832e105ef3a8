/*
 * The options of runs(): every invalid one throws at once, with a cure, before the store is opened.
 */
import { memoryRuns, runs, uiMessages, type RunsOptions, type RunStore } from '../../lib/runs/index.ts';
import { checkRunsOptions } from '../../lib/runs/options.ts';
import { codeOf } from '../fixtures/support.ts';

const produce = (): string[] => [];
const messageOf = (options: unknown): string => {
  try {
    void runs(produce, options as RunsOptions<string>).close();
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    return (error as Error).message;
  }
  return 'nothing was thrown';
};

test.each<[options: unknown, message: RegExp]>([
  [{ unknown: 1 }, /^The name of each option of runs\(\) must be one of id, .*; received the string "unknown"\./],
  [{ retry: 5 }, /^The name of each option of runs\(\) must be .*; received the string "retry"\./],
  [{ history: false }, /^The name of each option of runs\(\) must be .*; received the string "history"\./],
  [
    { keepAlive: 5 },
    /; received the string "keepAlive"\. Use heartbeat: it is the counterpart of keepAlive in better-sse\.$/,
  ],
  [[], /plain object/],
  [{ id: 'r' }, /^id must be a function; received the string "r"\. Leave it out for random ids\.$/],
  [{ again: 'stop' }, /^again must be 'join' or 'reject' or 'replace'; received the string "stop"\./],
  [{ allow: true }, /^allow must be a function/],
  [
    { keep: 0 },
    /^keep must be an integer from 1 to 2147483647 \(milliseconds\); received the number 0\. Leave it out for 600000\.$/,
  ],
  [{ keep: Infinity }, /^keep must be an integer/],
  [{ maxBytes: -1 }, /^maxBytes must be an integer from 1 to 2147483647 \(bytes\)/],
  [{ lease: 100 }, /^lease must be at least 500 \(milliseconds\); received the number 100\./],
  [{ lease: '10s' }, /^lease must be an integer/],
  [{ batch: -1 }, /^batch must be an integer from 1 to 2147483647 \(milliseconds\) or 0; received the number -1/],
  [{ stopUnread: 0 }, /^stopUnread must be an integer from 1 to 2147483647 \(milliseconds\) or false/],
  [{ stopUnread: true }, /^stopUnread must be/],
  [{ wire: 'json' }, /^wire must be a plain object/],
  [{ wire: { control: true } }, /^wire\.message must be a function/],
  [{ wire: { message: () => '' } }, /^wire\.control must be true or false/],
  [{ wire: { message: () => '', control: true, end: 'x' } }, /^wire\.end must be a function/],
  [
    { wire: { message: () => '', control: true, done: 1 } },
    /^The name of each part of wire must be .*; received the string "done"\./,
  ],
  [{ wire: { message: () => '', control: true, headers: { 'a b': 'c' } } }, /^headers\["a b"\]/],
  [{ store: 'redis' }, /^store must be a store of runs/],
  [{ store: { open() {} } }, /^store\.begin must be a function/],
  [
    { cors: { origins: 'x' } },
    /^The name of each CORS option must be .*; received the string "origins"\. Did you mean origin\?$/,
  ],
  [{ cors: { exposedHeaders: [7] } }, /^cors\.exposedHeaders/],
  [{ cors: { origin: '*', credentials: true } }, /^cors\.origin/],
  [{ limits: { connections: 0 } }, /^limits\.connections/],
  [{ heartbeat: 0 }, /^heartbeat/],
  [{ compress: 1 }, /^compress/],
  [{ maxAge: 0 }, /^maxAge/],
  [{ slowTimeout: 0 }, /^slowTimeout/],
  [{ onError: 1 }, /^onError/],
  [{ headers: { 'content-length': '5' } }, /^Each name in headers/],
])('%j is refused', (options, message) => {
  expect(messageOf(options)).toMatch(message);
});

test('a producer that is no function, and options that are no object, are refused', () => {
  expect(codeOf(() => runs('x' as never))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => runs({} as never))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => runs(produce, null as never))).toBe('ERR_SSE_OPTION');
});

test('an invalid option opens no store', () => {
  const store = { ...bound(memoryRuns()), open: jest.fn() };
  expect(messageOf({ store, keep: 0 })).toMatch(/^keep/);
  expect(store.open).not.toHaveBeenCalled();
});

test('the defaults', () => {
  const { again, keep, maxBytes, lease, batch, stopUnread, wire, connections } = checkRunsOptions({});
  expect({ again, keep, maxBytes, lease, batch, stopUnread }).toEqual({
    again: 'join',
    keep: 600_000,
    maxBytes: 8_388_608,
    lease: 10_000,
    batch: 20,
    stopUnread: false,
  });
  expect(wire.control).toBe(true);
  expect(connections).toMatchObject({ controlEvents: false, sendsPositions: true, heartbeat: 15_000 });
  expect(checkRunsOptions({ wire: uiMessages() }).again).toBe('replace');
  expect(checkRunsOptions({ wire: uiMessages(), again: 'join' }).again).toBe('join');
  expect(checkRunsOptions({ batch: 0, stopUnread: false, keep: undefined })).toMatchObject({ batch: 0, keep: 600_000 });
});

/** Returns the methods of a store as properties. */
function bound(store: RunStore): RunStore {
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(store)) as (keyof RunStore)[];
  return Object.fromEntries(names.map((name) => [name, (store[name] as () => unknown)?.bind?.(store)])) as never;
}
