/*
 * Runs the check of one case and releases what it has opened; checks the arguments and the harness before.
 * Invariant: everything that was opened is released, whatever fails, and the first error is the one that is reported.
 */
import { invalid, plainObject, positiveInteger, rejectUnknownKeys } from '../validation/validate.ts';
import type { ConformanceOptions } from './index.ts';

const DEFAULT_PATIENCE_MS = 5000;

/** A journal or a store of runs, as far as it is opened and closed here. */
interface Closable {
  close(): Promise<void>;
}

/** What one case has opened. */
export class CaseResources {
  readonly #opened = new Set<Closable>();
  readonly #cleanups: (() => void | Promise<void>)[] = [];

  /** Opens a handle, and closes it at the end of the case if it has opened. */
  async open<H extends Closable>(handle: H, open: () => Promise<void>): Promise<H> {
    await open();
    this.#opened.add(handle);
    return handle;
  }

  /** Calls the cleanup of a harness at the end of the case, after all handles have been closed. */
  addCleanup(harness: { cleanup?(): void | Promise<void> }): void {
    this.#cleanups.push(() => harness.cleanup?.());
  }

  /** Releases everything, and returns the errors. */
  async release(): Promise<unknown[]> {
    const errors: unknown[] = [];
    const releases = [...[...this.#opened].map((handle) => () => handle.close()), ...this.#cleanups];
    for (const release of releases) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- the cleanup follows the last close
        await release();
      } catch (error) {
        errors.push(error);
      }
    }
    return errors;
  }
}

/** Runs the check of a case. An error of the check is reported before one of a `close()` or a `cleanup()`, which often follows from it. */
export async function runCase(check: (resources: CaseResources) => Promise<void>): Promise<void> {
  const resources = new CaseResources();
  const errors: unknown[] = [];
  try {
    await check(resources);
  } catch (error) {
    errors.push(error);
  }
  errors.push(...(await resources.release()));
  if (errors.length > 0) throw errors[0];
}

/** Checks the arguments of a suite and returns the milliseconds that a case waits. */
export function patienceOf(suite: string, example: string, make: unknown, options: ConformanceOptions): number {
  if (typeof make !== 'function') {
    throw invalid(`The first argument of ${suite}()`, 'a function that returns a harness', make, {
      cure: `Pass a function, as in ${suite}(${example}).`,
    });
  }
  plainObject(`The second argument of ${suite}()`, options, '{ patience: 5000 }', {
    cure: 'Leave it out for the default.',
  });
  rejectUnknownKeys(`option of ${suite}()`, options, { patience: true });
  const { patience = DEFAULT_PATIENCE_MS } = options;
  return positiveInteger('patience', patience, 'milliseconds', { cure: 'Leave it out for 5,000 milliseconds.' });
}

/** Checks that a harness has a handle, with every method that the engine needs. */
export function checkHarness(harness: unknown, key: 'journal' | 'store', methods: readonly string[]): void {
  const cure = `Return an object such as { ${key}: … }.`;
  if (typeof harness !== 'object' || harness === null) {
    throw invalid('The harness that the function returns', `an object with a ${key}`, harness, { cure });
  }
  checkHandle(`${key} of the harness`, (harness as Record<string, unknown>)[key], key, methods);
}

/** Checks that a handle has every method. */
export function checkHandle(name: string, handle: unknown, key: string, methods: readonly string[]): void {
  const isObject = typeof handle === 'object' && handle !== null;
  const missing = methods.filter(
    (method) => typeof (handle as Record<string, unknown> | null | undefined)?.[method] !== 'function',
  );
  if (isObject && missing.length === 0) return;
  throw invalid(name, `a ${key} with the methods ${methods.join(', ')}`, handle, {
    cure: isObject ? `Add ${missing.join(', ')}.` : `Return it as { ${key}: … }.`,
  });
}
