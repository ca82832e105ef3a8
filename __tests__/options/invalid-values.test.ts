/*
 * Every option of every function that makes a router, a journal, a store, an inspector or metrics: a value that no option can have
 * throws at once, and the message has the name, the received value and a cure. Only `undefined` means that an option is left out.
 */
import type { CorsOptions } from 'cors';
import { Registry } from 'prom-client';
import { memoryJournal, sse, type FollowOptions, type Limits, type SseOptions } from '../../lib/index.ts';
import { inspector, type InspectorOptions } from '../../lib/inspector/index.ts';
import type { MemoryJournalOptions } from '../../lib/journal/memory-journal.ts';
import { lmdbJournal, lmdbRuns, type LmdbJournalOptions, type LmdbRunsOptions } from '../../lib/journal/lmdb/index.ts';
import {
  postgresJournal,
  postgresRuns,
  type PostgresJournalOptions,
  type PostgresRunsOptions,
} from '../../lib/journal/postgres/index.ts';
import {
  redisJournal,
  redisRuns,
  type RedisJournalOptions,
  type RedisRunsOptions,
} from '../../lib/journal/redis/index.ts';
import { metrics, type MetricsOptions } from '../../lib/metrics/index.ts';
import { events, runs, type RunsOptions, type Wire } from '../../lib/runs/index.ts';
import { SseTypeError } from '../../lib/errors.ts';
import { later } from '../fixtures/support.ts';

/** Every name, which the compiler keeps complete. */
type Names<Options> = Record<keyof Required<Options>, true>;

const router = sse();
const answers = runs(() => []);
afterAll(() => Promise.all([router.close(), answers.close()]));

const produce = (): string[] => [];
const client = { duplicate() {}, call() {} } as never;
const pool = { Client() {}, options: {}, query() {} } as never;

const CORS: Names<CorsOptions> = {
  origin: true,
  methods: true,
  allowedHeaders: true,
  exposedHeaders: true,
  credentials: true,
  maxAge: true,
  preflightContinue: true,
  optionsSuccessStatus: true,
};
const LIMITS: Names<Limits> = { connections: true, perClient: true, clientKey: true, whenFull: true };
const HISTORY: Names<MemoryJournalOptions> = { size: true, maxAge: true, maxBytes: true };
const SSE: Names<SseOptions> = {
  headers: true,
  cors: true,
  methods: true,
  controlEvents: true,
  retry: true,
  heartbeat: true,
  history: true,
  snapshot: true,
  maxBuffered: true,
  slowTimeout: true,
  maxAge: true,
  recheck: true,
  limits: true,
  compress: true,
  serialize: true,
  onError: true,
};
const RUNS: Names<RunsOptions<string>> = {
  id: true,
  again: true,
  allow: true,
  store: true,
  keep: true,
  maxBytes: true,
  lease: true,
  batch: true,
  stopUnread: true,
  wire: true,
  cors: true,
  headers: true,
  heartbeat: true,
  limits: true,
  compress: true,
  maxAge: true,
  slowTimeout: true,
  onError: true,
};
const WIRE: Names<Wire<string>> = { message: true, end: true, headers: true, control: true };
const LMDB: Names<LmdbJournalOptions> = { maxLength: true, maxAge: true, maxBytes: true, sync: true };
const LMDB_RUNS: Names<LmdbRunsOptions> = { sync: true };
const REDIS: Names<RedisJournalOptions> = {
  key: true,
  maxLength: true,
  maxAge: true,
  wait: true,
  maxPending: true,
  maxPendingBytes: true,
  maxEntryBytes: true,
  keyAge: true,
};
const REDIS_RUNS: Names<RedisRunsOptions> = { key: true };
const POSTGRES: Names<PostgresJournalOptions> = {
  table: true,
  schema: true,
  listen: true,
  poll: true,
  maxLength: true,
  maxAge: true,
  wait: true,
  maxPending: true,
  maxPendingBytes: true,
  maxEntryBytes: true,
  keyAge: true,
};
const POSTGRES_RUNS: Names<PostgresRunsOptions> = { table: true, schema: true, listen: true, poll: true };
const INSPECTOR: Names<InspectorOptions> = { publish: true };
const METRICS: Names<MetricsOptions> = { router: true };
const FOLLOW: Names<FollowOptions> = { to: true, after: true, signal: true };

/** Calls a function with a value for one of its options. */
type Call = (name: string, value: unknown) => unknown;

const CALLS: [what: string, names: object, call: Call][] = [
  ['sse()', SSE, (name, value) => sse({ [name]: value })],
  ['sse(): cors', CORS, (name, value) => sse({ cors: { [name]: value } })],
  ['sse(): limits', LIMITS, (name, value) => sse({ limits: { [name]: value } })],
  ['sse(): history', HISTORY, (name, value) => sse({ history: { [name]: value } })],
  ['sse(): retry', { min: 1, max: 1 }, (name, value) => sse({ retry: { min: 1, max: 9, [name]: value } })],
  ['sse(): maxAge', { min: 1, max: 1 }, (name, value) => sse({ maxAge: { min: 1, max: 9, [name]: value } })],
  [
    'sse(): recheck',
    { every: 1, check: 1 },
    (name, value) => sse({ recheck: { every: 1000, check: () => true, [name]: value } }),
  ],
  ['sse(): headers', { 'X-A': 1 }, (name, value) => sse({ headers: { [name]: value } as never })],
  ['close()', { over: 1, wait: 1 }, (name, value) => router.close({ [name]: value })],
  ['follow()', FOLLOW, (name, value) => router.follow({ [name]: value })],
  ['memoryJournal()', HISTORY, (name, value) => memoryJournal({ [name]: value })],
  ['lmdbJournal()', LMDB, (name, value) => lmdbJournal('log', { [name]: value })],
  ['redisJournal()', REDIS, (name, value) => redisJournal(client, { [name]: value })],
  ['postgresJournal()', POSTGRES, (name, value) => postgresJournal(pool, { [name]: value })],
  ['runs()', RUNS, (name, value) => runs(produce, { [name]: value })],
  ['runs(): cors', CORS, (name, value) => runs(produce, { cors: { [name]: value } })],
  ['runs(): limits', LIMITS, (name, value) => runs(produce, { limits: { [name]: value } })],
  ['runs(): wire', WIRE, (name, value) => runs(produce, { wire: { ...events(), [name]: value } })],
  ['close() of runs', { wait: 1 }, (name, value) => answers.close({ [name]: value })],
  ['follow() of runs', { after: 1, signal: 1 }, (name, value) => answers.follow('r', { [name]: value })],
  ['lmdbRuns()', LMDB_RUNS, (name, value) => lmdbRuns('log', { [name]: value })],
  ['redisRuns()', REDIS_RUNS, (name, value) => redisRuns(client, { [name]: value })],
  ['postgresRuns()', POSTGRES_RUNS, (name, value) => postgresRuns(pool, { [name]: value })],
  ['inspector()', INSPECTOR, (name, value) => inspector(router, { [name]: value })],
  ['metrics()', METRICS, (name, value) => metrics(router, new Registry(), { [name]: value })],
];

const VALUES: [text: string, value: unknown][] = [
  ['null', null],
  ['a symbol', Symbol('x')],
];

describe.each(CALLS)('%s', (_what, names, call) => {
  describe.each(Object.keys(names))('%s', (name) => {
    test.each(VALUES)('throws for %s, with the cure', (text, value) => {
      expectCure(() => call(name, value), text);
    });
  });
});

type Arguments = [what: string, call: (value: never) => unknown];

describe.each<Arguments>([
  ['the options of sse()', (value) => sse(() => {}, value)],
  ['the options of memoryJournal()', (value) => memoryJournal(value)],
  ['the path of lmdbJournal()', (value) => lmdbJournal(value)],
  ['the options of lmdbJournal()', (value) => lmdbJournal('log', value)],
  ['the client of redisJournal()', (value) => redisJournal(value)],
  ['the options of redisJournal()', (value) => redisJournal(client, value)],
  ['the pool of postgresJournal()', (value) => postgresJournal(value)],
  ['the options of postgresJournal()', (value) => postgresJournal(pool, value)],
  ['the producer of runs()', (value) => runs(value)],
  ['the options of runs()', (value) => runs(produce, value)],
  ['the path of lmdbRuns()', (value) => lmdbRuns(value)],
  ['the options of lmdbRuns()', (value) => lmdbRuns('log', value)],
  ['the client of redisRuns()', (value) => redisRuns(value)],
  ['the options of redisRuns()', (value) => redisRuns(client, value)],
  ['the pool of postgresRuns()', (value) => postgresRuns(value)],
  ['the options of postgresRuns()', (value) => postgresRuns(pool, value)],
  ['the router of inspector()', (value) => inspector(value)],
  ['the options of inspector()', (value) => inspector(router, value)],
  ['the router of metrics()', (value) => metrics(value)],
  ['the registry of metrics()', (value) => metrics(router, value)],
  ['the options of metrics()', (value) => metrics(router, new Registry(), value)],
  ['the options of close()', (value) => router.close(value)],
  ['the options of follow()', (value) => router.follow(value)],
  ['the options of close() of runs', (value) => answers.close(value)],
  ['the options of follow() of runs', (value) => answers.follow('r', value)],
])('%s', (_what, call) => {
  test.each(VALUES)('throw for %s, with the cure', (text, value) => expectCure(() => call(value as never), text));
});

test.each<[what: string, call: () => unknown, message: RegExp]>([
  [
    'an empty key',
    () => redisRuns(client, { key: '' }),
    /redisRuns: key must be a non-empty string.*\. Leave key out for sse:runs\.$/,
  ],
  [
    'a key with a brace',
    () => redisRuns(client, { key: 'a{b' }),
    /received the string "a\{b"\. .*Leave key out for sse:runs\.$/,
  ],
  [
    'an empty key',
    () => redisJournal(client, { key: '' }),
    /redisJournal: key must be .*\. Leave key out for \{sse\}:log\.$/,
  ],
  [
    'an empty schema',
    () => postgresRuns(pool, { schema: '' }),
    /schema must be a name of 1 to 63 bytes without NUL; received the string ""\./,
  ],
  [
    'an empty schema',
    () => postgresJournal(pool, { schema: '' }),
    /schema must be a name of 1 to 63 bytes without .*; received the string ""\./,
  ],
])('the message for %s names the mistake', (_what, call, message) => expect(call).toThrow(message));

function expectCure(call: () => unknown, text: string): void {
  let thrown: unknown;
  try {
    const made = call() as { close?: () => unknown } | undefined;
    if (typeof made?.close === 'function') later(() => made.close!());
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(SseTypeError);
  const { message } = thrown as Error;
  const [, cure] = message.split(`; received ${text}. `);
  expect(message).toMatch(/^[^;]+ must be [^;]+; received /);
  expect([message, cure]).toEqual([message, expect.stringMatching(/^[A-Z].*[.?]$/s)]);
}
