// Computes medians with their range, and ratios round by round.

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Returns the smallest value that the given percentage of the values does not exceed. */
export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil((sorted.length * percent) / 100) - 1];
}

/** Returns the median and the range of a figure; `undefined` if the peer does not have this figure. */
export function spread(samples, metric) {
  const values = samples.map((sample) => sample[metric]).filter((value) => value !== undefined && value !== null);
  if (values.length === 0) return undefined;
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * Returns the ratio to the baseline, as the median of the rounds. A minute in which the machine is slow changes both sides of a
 * round's ratio, but only one side of a ratio of medians.
 */
export function ratio(samples, baseline, metric) {
  const rounds = Math.min(samples.length, baseline.length);
  const ratios = [];
  for (let i = 0; i < rounds; i++) ratios.push({ ratio: samples[i][metric] / baseline[i][metric] });
  return spread(ratios, 'ratio');
}
