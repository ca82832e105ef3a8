/*
 * The machine's own pulse: load, memory and the delay of this process' event loop, read every two seconds.
 * Every reading moves the meters; only what has changed markedly is worth a line in the feed.
 */
import { freemem, loadavg, totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Unpublished, Vitals } from './feed.ts';

type Measured = Omit<Vitals, 'readers'>;

const EVERY = 2000;
const STEADY = 20_000; // told anew after this long, however little it has moved
const RESOLUTION = 10;
const MARKED: Measured = { load: 0.2, memory: 1, delay: 20 };

export function watchMachine(
  onVitals: (vitals: Measured) => void,
  onReading: (reading: Unpublished) => void,
): () => void {
  const told: Partial<Measured> = {};
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION });
  loop.enable();
  let lastTold = 0;

  function read(): void {
    const vitals: Measured = {
      load: round(loadavg()[0]!, 2),
      memory: round(100 * (1 - freemem() / totalmem()), 1),
      delay: Math.max(0, round(loop.percentile(99) / 1e6 - RESOLUTION, 1)),
    };
    loop.reset();
    const now = Date.now();
    onVitals(vitals);
    const moved = (['load', 'memory', 'delay'] as const).filter(
      (what) => Math.abs(vitals[what] - (told[what] ?? (what === 'delay' ? 0 : Infinity))) >= MARKED[what],
    );
    if (moved.length === 0 && now - lastTold >= STEADY) moved.push('load');
    for (const what of moved) {
      lastTold = now;
      onReading({ kind: 'machine', what, value: vitals[what], was: told[what] });
      told[what] = vitals[what];
    }
  }

  const timer = setInterval(read, EVERY);
  read();
  return () => {
    clearInterval(timer);
    loop.disable();
  };
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
