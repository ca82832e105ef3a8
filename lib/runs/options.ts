/*
 * The options of `runs()`: defaults and checks.
 * Invariants: an invalid option throws when the router is made, before the store is opened. Settings need no further check.
 */

import type { Request } from 'express';
import {
  checkHeaders,
  checkOptions,
  CONNECTION_HINTS,
  HEADERS,
  type HeaderValues,
  type Settings,
} from '../options/options.ts';
import {
  invalid,
  oneOf,
  optionalFunction,
  plainObject,
  positiveInteger,
  rejectUnknownKeys,
} from '../validation/validate.ts';
import type { RunsOptions, Wire } from './api.ts';
import type { RunStore } from './run-store.ts';
import { memoryRuns } from './stores/memory-runs.ts';
import { events } from './wires.ts';

/** The methods that a page of another origin may use, and the headers of answers that it may read. */
const METHODS = ['GET', 'HEAD', 'POST', 'DELETE'];
const EXPOSED_HEADERS = ['X-Run-Id', 'Location', 'Retry-After'];

const UI_MESSAGES_HEADER = 'x-vercel-ai-ui-message-stream';

const DEFAULT_KEEP_MS = 600_000;
const DEFAULT_MAX_BYTES = 8_388_608;
const DEFAULT_LEASE_MS = 10_000;
const DEFAULT_BATCH_MS = 20;
/** A lease is renewed every third of it, so a shorter one would be lost by a busy event loop. */
const MIN_LEASE_MS = 500;

const AGAIN = ['join', 'reject', 'replace'] as const;
const STORE_METHODS = [
  'open',
  'begin',
  'append',
  'end',
  'renew',
  'stop',
  'state',
  'read',
  'follow',
  'noteReaders',
  'close',
] as const;

// The compiler keeps these lists complete.
const KNOWN_OPTIONS: Record<keyof Required<RunsOptions<unknown>>, true> = {
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
const KNOWN_WIRE: Record<keyof Required<Wire<unknown>>, true> = {
  message: true,
  end: true,
  headers: true,
  control: true,
};

/** The checked options, with every default filled in. */
export interface RunsSettings<C = unknown> {
  /** The settings of the connections of readers. */
  readonly connections: Settings;
  /** The headers of every stream, unless the application overrides them. */
  readonly headers: Readonly<HeaderValues>;
  readonly id: ((req: Request) => string) | undefined;
  readonly again: 'join' | 'reject' | 'replace';
  readonly allow:
    | ((req: Request, id: string, what: 'start' | 'read' | 'stop') => boolean | Promise<boolean>)
    | undefined;
  readonly store: RunStore;
  readonly keep: number;
  readonly maxBytes: number;
  readonly lease: number;
  readonly batch: number;
  readonly stopUnread: number | false;
  readonly wire: Wire<C>;
}

/**
 * Checks the options of `runs()`, before the store is opened.
 * @throws {SseTypeError} `ERR_SSE_OPTION`, `ERR_SSE_HEADER` or `ERR_SSE_CORS`
 */
export function checkRunsOptions<C>(options: RunsOptions<C>): RunsSettings<C> {
  rejectUnknownKeys('option of runs()', options, KNOWN_OPTIONS, { hints: CONNECTION_HINTS });
  const { id, again, allow, store, keep, maxBytes, lease, batch, stopUnread, wire, ...shared } = options;
  const checkedWire = checkWire((wire === undefined ? events() : wire) as Wire<C>);
  const settings = checkOptions({ ...shared, cors: withDefaults(shared.cors), controlEvents: false });
  const defaultAgain = isForUiMessages(checkedWire) ? 'replace' : 'join';
  return {
    connections: {
      ...settings,
      sendsPositions: true, // a reader without an id continues from before the first chunk
      // Clients that understand only their own protocol do not reconnect by themselves.
      retry: checkedWire.control ? settings.retry : undefined,
      whenFull: checkedWire.control ? settings.whenFull : 'reject',
    },
    headers: { ...HEADERS, ...checkedWire.headers },
    id: optionalFunction('id', id, { cure: 'Leave it out for random ids.' }),
    again:
      again === undefined
        ? defaultAgain
        : oneOf('again', again, AGAIN, { cure: `Leave it out for '${defaultAgain}'.` }),
    allow: optionalFunction('allow', allow, { cure: 'Leave it out if the middleware in front decides.' }),
    keep: checkTime('keep', keep, DEFAULT_KEEP_MS),
    maxBytes: positiveInteger('maxBytes', maxBytes === undefined ? DEFAULT_MAX_BYTES : maxBytes, 'bytes', {
      cure: `Leave it out for ${DEFAULT_MAX_BYTES}.`,
    }),
    lease: checkLease(lease),
    batch: batch === 0 ? 0 : checkTime('batch', batch, DEFAULT_BATCH_MS, ' or 0'),
    stopUnread: stopUnread === false || stopUnread === undefined ? false : checkStopUnread(stopUnread),
    wire: checkedWire,
    store: checkStore(store), // last: no store is made if another option is invalid
  };
}

/** Whether the clients of a wire are those of the AI SDK. They post a new message to the same chat while its last answer may be running. */
function isForUiMessages({ headers = {} }: Pick<Wire<unknown>, 'headers'>): boolean {
  return Object.keys(headers).some((name) => name.toLowerCase() === UI_MESSAGES_HEADER);
}

/** A page of another origin may also stop a run, and read where it is. */
function withDefaults(cors: RunsOptions<unknown>['cors']): RunsOptions<unknown>['cors'] {
  if (cors === true) return { methods: METHODS, exposedHeaders: EXPOSED_HEADERS };
  if (typeof cors !== 'object' || cors === null || Array.isArray(cors)) return cors;
  const { methods = METHODS, exposedHeaders = [] } = cors;
  const exposed: unknown = exposedHeaders;
  const isList =
    typeof exposed === 'string' || (Array.isArray(exposed) && exposed.every((name) => typeof name === 'string'));
  // Whatever is no list of names is refused with the other options.
  if (!isList) return { ...cors, methods };
  const names = [exposed]
    .flat()
    .flatMap((list) => list.split(','))
    .map((name) => name.trim())
    .filter(Boolean);
  return { ...cors, methods, exposedHeaders: [...new Set([...names, ...EXPOSED_HEADERS])] };
}

function checkTime(name: string, value: unknown, defaultMs: number, alternative = ''): number {
  if (value === undefined) return defaultMs;
  return positiveInteger(name, value, 'milliseconds', { alternative, cure: `Leave it out for ${defaultMs}.` });
}

function checkLease(lease: unknown): number {
  const checked = checkTime('lease', lease, DEFAULT_LEASE_MS);
  if (checked >= MIN_LEASE_MS) return checked;
  const cure = `A shorter lease would be lost while the event loop is busy; leave it out for ${DEFAULT_LEASE_MS}.`;
  throw invalid('lease', `at least ${MIN_LEASE_MS} (milliseconds)`, lease, { cure });
}

function checkStopUnread(stopUnread: unknown): number {
  return positiveInteger('stopUnread', stopUnread, 'milliseconds', {
    alternative: ' or false',
    cure: 'Leave it out for false.',
  });
}

function checkWire<C>(wire: Wire<C>): Wire<C> {
  const example = '{ message: (chunk) => ({ data: chunk }), control: true }';
  plainObject('wire', wire, example, { cure: 'Use events(), uiMessages() or openai(), or leave it out.' });
  rejectUnknownKeys('part of wire', wire, KNOWN_WIRE);
  const cure = `For example: wire: ${example}.`;
  const { message, end, headers, control } = wire as Readonly<Record<keyof Wire<C>, unknown>>;
  if (typeof message !== 'function') throw invalid('wire.message', 'a function', message, { cure });
  if (typeof control !== 'boolean') throw invalid('wire.control', 'true or false', control, { cure });
  optionalFunction('wire.end', end, { cure });
  if (headers !== undefined) checkHeaders(headers);
  return wire;
}

function checkStore(store: unknown): RunStore {
  if (store === undefined) return memoryRuns();
  const cure =
    'Use memoryRuns(), lmdbRuns(), redisRuns() or postgresRuns(), or leave it out for the memory of this process.';
  if (typeof store !== 'object' || store === null) throw invalid('store', 'a store of runs', store, { cure });
  for (const method of STORE_METHODS) {
    const value = (store as RunStore)[method] as unknown;
    if (typeof value !== 'function') throw invalid(`store.${method}`, 'a function', value, { cure });
  }
  return store as RunStore;
}
