/*
 * A small file beside the data by which processes wake each other: a process writes to it after each commit, all watch it.
 * Invariant: the file only speeds delivery up. A lost signal delays entries until the next maintenance run and loses none.
 */
import { closeSync, constants, openSync, watch, writeSync, type FSWatcher } from 'node:fs';
import { join } from 'node:path';

const POLL_MS = 20; // used where files cannot be watched: no inotify left, some mounts of containers

/** Sends and receives signals. Neither its watcher nor its timer keeps a process alive. */
export class WakeFile {
  readonly #file: number;
  readonly #onSignal: () => void;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `onSignal` is called after any process has signalled. */
  constructor(path: string, onSignal: () => void) {
    this.#onSignal = onSignal;
    const name = join(path, 'wake');
    this.#file = openSync(name, constants.O_RDWR | constants.O_CREAT);
    try {
      this.#watcher = watch(name, { persistent: false }, onSignal);
      this.#watcher.on('error', () => this.#poll());
    } catch {
      this.#poll();
    }
  }

  /** Wakes all processes, including this one. Writes one byte into the page cache: a few microseconds. */
  signal(): void {
    try {
      writeSync(this.#file, '\n', 0); // the same byte again: the file does not grow
    } catch {
      // The disk is full or the directory was removed: the other processes notice at their next maintenance run.
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
    closeSync(this.#file);
  }

  #poll(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#timer = setInterval(this.#onSignal, POLL_MS);
    this.#timer.unref();
  }
}
