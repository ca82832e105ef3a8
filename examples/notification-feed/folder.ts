/*
 * Watches a folder and its subfolders. It uses one watcher per folder: on Linux, the recursive mode of fs.watch would walk through
 * node_modules first.
 */
import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import type { FileChange } from './feed.ts';

type Change = Omit<FileChange, 'at'>;

const IGNORED = new Set(['node_modules', 'dist', 'coverage']);
const SETTLE_MS = 120; // an editor's save causes several events
const MAX_CHANGES = 12; // for one moment; further changes are only counted

const ignored = (name: string): boolean => IGNORED.has(name) || name.startsWith('.') || name.endsWith('~');

export async function watchFolder(root: string, onChange: (change: Change) => void): Promise<() => void> {
  const watchers = new Map<string, FSWatcher>();
  const known = new Map<string, string | undefined>(); // path → its stamp at the last report
  const touched = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  /** Watches a folder, then reads it: in this order no change is missed in between. */
  async function watchTree(folder: string, onFile: (path: string) => void): Promise<void> {
    if (stopped || watchers.has(folder)) return;
    try {
      const watcher = watch(folder, (_, name) => {
        if (name !== null && !ignored(name)) touch(join(folder, name));
      });
      watcher.on('error', () => unwatch(folder));
      watchers.set(folder, watcher);
      for (const item of await readdir(folder, { withFileTypes: true })) {
        const path = join(folder, item.name);
        if (ignored(item.name)) continue;
        if (item.isDirectory()) await watchTree(path, onFile);
        else if (item.isFile()) onFile(path);
      }
    } catch {
      unwatch(folder); // it was removed in the meantime
    }
  }

  function unwatch(folder: string): void {
    watchers.get(folder)?.close();
    watchers.delete(folder);
  }

  function touch(path: string): void {
    touched.add(path);
    timer ??= setTimeout(() => void settle(), SETTLE_MS);
  }

  async function settle(): Promise<void> {
    const paths = [...touched];
    touched.clear();
    timer = undefined;
    const changes: Change[] = [];
    for (const path of paths) {
      const change = await inspect(path);
      if (change) changes.push(change);
    }
    if (stopped) return;
    const reported = changes.slice(0, MAX_CHANGES);
    const more = changes.length - reported.length;
    if (more > 0) reported.at(-1)!.more = more;
    reported.forEach(onChange);
  }

  async function inspect(path: string): Promise<Change | undefined> {
    const shown = relative(root, path).split(sep).join('/');
    const found = await stat(path).catch(() => undefined);
    if (found?.isDirectory()) {
      await watchTree(path, touch);
      return undefined;
    }
    if (found?.isFile()) {
      const change = known.has(path) ? 'changed' : 'added';
      const stamp = `${found.mtimeMs} ${found.size}`;
      if (known.get(path) === stamp) return undefined; // a late event of a change that is already reported
      known.set(path, stamp);
      return { kind: 'file', change, path: shown, bytes: found.size };
    }
    unwatch(path);
    return known.delete(path) ? { kind: 'file', change: 'removed', path: shown } : undefined;
  }

  await watchTree(root, (path) => known.set(path, undefined));
  return () => {
    stopped = true;
    clearTimeout(timer);
    for (const watcher of watchers.values()) watcher.close();
  };
}
