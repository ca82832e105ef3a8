// How fast events are sent: so many under way, or so many a second.
// May know: nothing of events. Keeps: `one(n)` is called for 0, 1, 2 … in this order; the first that fails ends it.

/** `count` calls, at most `window` of them unsettled. */
export async function windowed(count, window, one) {
  let next = 0;
  const worker = async () => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: Math.min(window, count) }, worker));
}

/**
 * `count` calls, `rate` a second by the clock: what a late timer has left out is made up for at once, but for a window of
 * unsettled calls, so that a machine that cannot keep up is late, and no queue overflows.
 */
export async function steadily(count, rate, one, window = 1000) {
  const begun = performance.now();
  const under = new Set();
  let failed;
  for (let n = 0; n < count && failed === undefined;) {
    const due = Math.min(count, 1 + Math.floor(((performance.now() - begun) * rate) / 1000));
    while (n < due && under.size < window) {
      const call = one(n++)
        .catch((error) => (failed ??= error))
        .finally(() => under.delete(call));
      under.add(call);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(under);
  if (failed !== undefined) throw failed;
}
