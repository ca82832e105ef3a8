/*
 * The newest frames of a line, numbered without gaps: at most 1,000, and at most 1 MiB of data.
 */

import type { Frame } from './source.ts';

export interface FrameLog {
  /** The number of the newest frame. */
  n: number;
  /** The position after the newest frame. */
  id: string;
  add(frames: readonly Frame[]): void;
  /** The frames after number `n`, unless the log does not reach back that far, or not forth. */
  after(n: number): Frame[] | undefined;
  /**
   * The number of the frame before the log, if the log begins at this position, otherwise of the newest frame at this position. If
   * no frame has an id, the position `''` is that of the newest frame: it does not show what a tab has had. An `end` is a state of
   * the stream: it comes after every position.
   */
  find(id: string): number | undefined;
}

const MAX_FRAMES = 1_000;
const MAX_CHARACTERS = 2 ** 20;

/** Makes a log that begins after the frame of number `n`, at the position `id`. */
export function makeLog(id: string, n: number): FrameLog {
  const frames: Frame[] = [];
  // Without ids, a log that has dropped frames begins at no position that a tab could name.
  let start: string | undefined = id;
  let size = 0;
  const log: FrameLog = {
    n,
    id,
    add(added) {
      for (const frame of added) {
        frames.push(frame);
        size += frame.data.length;
        log.n++;
        log.id = frame.id;
        while (frames.length > MAX_FRAMES || size > MAX_CHARACTERS) {
          const dropped = frames.shift()!;
          size -= dropped.data.length;
          start = dropped.id || undefined;
        }
      }
    },
    after(from) {
      const index = from - log.n + frames.length;
      return index >= 0 && from <= log.n ? frames.slice(index) : undefined;
    },
    find(wanted) {
      const index =
        wanted === start && log.id ? -1 : frames.findLastIndex((frame) => frame.id === wanted && !frame.isEnd);
      return index >= 0 || wanted === start ? log.n - frames.length + index + 1 : undefined;
    },
  };
  return log;
}
