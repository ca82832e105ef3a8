/*
 * How processes wake each other: a small file beside the data that is written to after each commit, and watched by all.
 * Knows files and timers; nothing of LMDB.
 * Invariant: it only ever hastens: a ring that gets lost costs the time to the journal's next beat, never an entry.
 */
import { closeSync, constants, openSync, watch, writeSync, type FSWatcher } from 'node:fs';
import { join } from 'node:path';

const LOOK = 20; // ms between two looks where files cannot be watched: no inotify left, some mounts of containers

/** Rings, and is rung. Neither its watcher nor its timer keeps a process alive. */
export class Bell {
  readonly #file: number;
  readonly #wake: () => void;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `wake` is called when somebody has rung. */
  constructor(path: string, wake: () => void) {
    this.#wake = wake;
    const name = join(path, 'wake');
    this.#file = openSync(name, constants.O_RDWR | constants.O_CREAT);
    try {
      this.#watcher = watch(name, { persistent: false }, wake);
      this.#watcher.on('error', () => this.#look());
    } catch {
      this.#look();
    }
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

  #look(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#timer = setInterval(this.#wake, LOOK);
    this.#timer.unref();
  }
}
