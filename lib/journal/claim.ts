/*
 * The journals of this process that a router uses. Two routers on one log would deliver each other's events.
 * Invariant: a journal, and the log that it names, belongs to one router until that router has closed it.
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
  readonly journals: WeakSet<object>;
  readonly logs: Set<string>;
}

/**
 * Claims a journal for a router. Returns the function that releases it.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if another router has it.
 */
export function claimJournal(journal: Journal): () => void {
  const { journals, logs } = ((globalThis as { [CLAIMS]?: Claims })[CLAIMS] ??= {
    journals: new WeakSet(),
    logs: new Set(),
  });
  const log = (journal as { [LOG_NAME]?(): string })[LOG_NAME]?.();
  if (journals.has(journal)) {
    throw inUse('the journal of another router', 'Create a journal for each router');
  }
  if (log !== undefined && logs.has(log)) {
    throw inUse(`${log}, the log of another router of this process`, 'Use one router in all modules, or another log');
  }
  journals.add(journal);
  if (log !== undefined) logs.add(log);
  return () => {
    journals.delete(journal);
    if (log !== undefined) logs.delete(log);
  };
}

function inUse(received: string, cure: string): SseTypeError {
  return new SseTypeError(
    'ERR_SSE_OPTION',
    `history must be a journal that no other router uses, because each router would deliver the other's events; received ${received}. ${cure}; a router that replaces another one is created after await events.close().`,
  );
}
