/*
 * Changes in a folder and below it. One watcher for each folder: the recursive mode of fs.watch would, on Linux,
 * walk through node_modules before it could be told not to.
 */
import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import type { FileChange } from './feed.ts';

type Change = Omit<FileChange, 'at'>;

const IGNORED = new Set(['node_modules', 'dist', 'coverage']);
const SETTLE = 120; // ms: an editor's save is several events
const AT_MOST = 12; // lines for one moment; the rest is only counted

const ignored = (name: string): boolean => IGNORED.has(name) || name.startsWith('.') || name.endsWith('~');

export async function watchFolder(root: string, onChange: (change: Change) => void): Promise<() => void> {
  const watchers = new Map<string, FSWatcher>();
  const known = new Map<string, string | undefined>(); // path → what it was when it was last told
  const touched = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  /** Watches a folder before it reads it, so that nothing comes in between unseen. */
  async function enter(folder: string, onFile: (path: string) => void): Promise<void> {
    if (stopped || watchers.has(folder)) return;
    try {
      const watcher = watch(folder, (_, name) => {
        if (name !== null && !ignored(name)) touch(join(folder, name));
      });
      watcher.on('error', () => leave(folder));
      watchers.set(folder, watcher);
      for (const item of await readdir(folder, { withFileTypes: true })) {
        const path = join(folder, item.name);
        if (ignored(item.name)) continue;
        if (item.isDirectory()) await enter(path, onFile);
        else if (item.isFile()) onFile(path);
      }
    } catch {
      leave(folder); // gone again already
    }
  }

  function leave(folder: string): void {
    watchers.get(folder)?.close();
    watchers.delete(folder);
  }

  function touch(path: string): void {
    touched.add(path);
    timer ??= setTimeout(() => void settle(), SETTLE);
  }

  async function settle(): Promise<void> {
    const paths = [...touched];
    touched.clear();
    timer = undefined;
    const changes: Change[] = [];
    for (const path of paths) {
      const change = await look(path);
      if (change) changes.push(change);
    }
    if (stopped) return;
    const told = changes.slice(0, AT_MOST);
    const more = changes.length - told.length;
    if (more > 0) told.at(-1)!.more = more;
    told.forEach(onChange);
  }

  async function look(path: string): Promise<Change | undefined> {
    const shown = relative(root, path).split(sep).join('/');
    const found = await stat(path).catch(() => undefined);
    if (found?.isDirectory()) {
      await enter(path, touch);
      return undefined;
    }
    if (found?.isFile()) {
      const change = known.has(path) ? 'changed' : 'added';
      const stamp = `${found.mtimeMs} ${found.size}`;
      if (known.get(path) === stamp) return undefined; // a late event of what has been told
      known.set(path, stamp);
      return { kind: 'file', change, path: shown, bytes: found.size };
    }
    leave(path);
    return known.delete(path) ? { kind: 'file', change: 'removed', path: shown } : undefined;
  }

  await enter(root, (path) => known.set(path, undefined));
  return () => {
    stopped = true;
    clearTimeout(timer);
    for (const watcher of watchers.values()) watcher.close();
  };
}
