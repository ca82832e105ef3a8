/*
 * How processes wake each other: a small file beside the data that is written to after each commit, and watched by all.
 * Knows files and timers; nothing of LMDB.
 * Invariant: a ring that gets lost costs at most one beat, never an entry.
 */
import { closeSync, constants, openSync, watch, writeSync, type FSWatcher } from 'node:fs';
import { join } from 'node:path';

const BEAT = 250; // ms: how late a wake-up is when the system has swallowed it
const FAST_BEAT = 20; // ms: where files cannot be watched (no inotify left, some network or container mounts)

/** Rings, and is rung. Neither its watcher nor its timer keeps a process alive. */
export class Bell {
  readonly #file: number;
  readonly #wake: () => void;
  readonly #beat: () => void;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout;

  /** `wake`: somebody has rung. `beat`: time for what is done now and then. */
  constructor(path: string, wake: () => void, beat: () => void) {
    this.#wake = wake;
    this.#beat = beat;
    const name = join(path, 'wake');
    this.#file = openSync(name, constants.O_RDWR | constants.O_CREAT);
    this.#timer = setInterval(beat, BEAT);
    try {
      this.#watcher = watch(name, { persistent: false }, wake);
      this.#watcher.on('error', () => this.#goWithout());
    } catch {
      this.#goWithout();
    }
    this.#timer.unref();
  }

  /** Wakes all processes, this one included. A write of one byte into the page cache: a few microseconds. */
  ring(): void {
    try {
      writeSync(this.#file, '\n', 0); // the same byte again: the file does not grow
    } catch {
      // The disk is full or the directory gone: the others notice by their next beat.
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
    closeSync(this.#file);
  }

  #goWithout(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      this.#wake();
      this.#beat();
    }, FAST_BEAT);
    this.#timer.unref();
  }
}
