/*
 * The journals and stores of runs of this process that a router uses. Two routers on one log would deliver each other's events, and
 * a store reports stops to the router that has opened it last.
 * Invariant: a journal, and the log that it names, belongs to one router until that router has closed it. So does a store of runs.
 *
 * This is the one exception to the rule that no module has mutable state: every copy of this package must see the same claims.
 */
import { SseTypeError } from '../errors.ts';
import type { Journal } from './journal.ts';

/**
 * The method of a journal that returns the name of its log in this process, if two journals of the process can have the same log.
 * It is not part of the contract, and `open()` does not claim: several journals of one process may open a log, as conformance does.
 */
export const LOG_NAME: unique symbol = Symbol.for('sse-router.log-name') as never;

const CLAIMS: unique symbol = Symbol.for('sse-router.claims') as never;

interface Claims {
  /** Journals and stores of runs. */
  readonly objects: WeakSet<object>;
  readonly logs: Set<string>;
}

/**
 * Claims a journal for a router. Returns the function that releases it.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if another router has it.
 */
export function claimJournal(journal: Journal): () => void {
  const { objects, logs } = claims();
  const log = (journal as { [LOG_NAME]?(): string })[LOG_NAME]?.();
  if (objects.has(journal)) {
    throw inUse('the journal of another router', 'Create a journal for each router');
  }
  if (log !== undefined && logs.has(log)) {
    throw inUse(`${log}, the log of another router of this process`, 'Use one router in all modules, or another log');
  }
  objects.add(journal);
  if (log !== undefined) logs.add(log);
  return () => {
    objects.delete(journal);
    if (log !== undefined) logs.delete(log);
  };
}

/**
 * Claims a store of runs for a router. Returns the function that releases it. Two stores on the same runs are allowed: their routers
 * share these runs, as two processes do.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if another router has it.
 */
export function claimStore(store: object): () => void {
  const { objects } = claims();
  if (objects.has(store)) {
    throw new SseTypeError(
      'ERR_SSE_OPTION',
      'store must be a store of runs that no other router uses, because it reports stops to one router only; received the store of another router. Create a store for each router.',
    );
  }
  objects.add(store);
  return () => void objects.delete(store);
}

function claims(): Claims {
  return ((globalThis as { [CLAIMS]?: Claims })[CLAIMS] ??= { objects: new WeakSet(), logs: new Set() });
}

function inUse(received: string, cure: string): SseTypeError {
  return new SseTypeError(
    'ERR_SSE_OPTION',
    `history must be a journal that no other router uses, because each router would deliver the other's events; received ${received}. ${cure}; a router that replaces another one is created after await events.close().`,
  );
}
