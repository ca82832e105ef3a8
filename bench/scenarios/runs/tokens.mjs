// The source of a run: numbered tokens at a steady pace, the same in every peer.
// Invariant: every token has its number and a time of the clock that all processes share.
import { setTimeout as pause } from 'node:timers/promises';
import { machineTime } from '../../gauges.mjs';

/**
 * Yields `count` tokens, one every `every` milliseconds, after `gate`. With `isDue`, the time of a token is when it was due, so a
 * process that falls behind has late tokens; otherwise it is when the token was made.
 */
export async function* tokens({ count, every, offset = 0, bytes = 0, isDue = false, hold = false, gate, signal }) {
  await gate;
  const start = machineTime() + offset;
  const text = 'x'.repeat(bytes);
  for (let n = 1; n <= count; n++) {
    const due = start + n * every;
    const wait = due - machineTime();
    if (every > 0 && wait > 0) await pause(wait, undefined, { signal });
    yield { n, at: isDue ? due : machineTime(), text };
  }
  // A run that has not ended, so that every peer can be joined.
  if (hold) await new Promise(() => {});
}

/** A token as a server without a library writes it. */
export const frame = (token) => `data: ${JSON.stringify(token)}\n\n`;
