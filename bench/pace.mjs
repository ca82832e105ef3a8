// The pace of sending events: a number of pending calls, or a number of calls per second.
// Invariant: `one(n)` is called for 0, 1, 2 … in this order. The first failure ends the series.

/** Makes `count` calls, of which at most `window` are pending at the same time. */
export async function windowed(count, window, one) {
  let next = 0;
  const worker = async () => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: Math.min(window, count) }, worker));
}

/**
 * Makes `count` calls, `rate` per second. After a late timer, the missing calls are made at once, but at most `window` calls are
 * pending. So a slow machine falls behind, and no queue overflows.
 */
export async function steadily(count, rate, one, window = 1000) {
  const begun = performance.now();
  const pending = new Set();
  let failed;
  for (let n = 0; n < count && failed === undefined;) {
    const due = Math.min(count, 1 + Math.floor(((performance.now() - begun) * rate) / 1000));
    while (n < due && pending.size < window) {
      const call = one(n++)
        .catch((error) => (failed ??= error))
        .finally(() => pending.delete(call));
      pending.add(call);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(pending);
  if (failed !== undefined) throw failed;
}
