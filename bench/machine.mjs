// Describes the machine of a run. It contains no host name and no paths, because the results are published.
import { createRequire } from 'node:module';
import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os';
import { readFile } from 'node:fs/promises';
import { engineVersion } from './engines.mjs';
import { journals } from './journals.mjs';
import { pinned } from './processes.mjs';

/** The peers that need no package, so their version is that of Node. */
export const bare = ['net', 'joined', 'socket', 'http'];

export function machine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory: `${Math.round(totalmem() / 2 ** 30)} GB`,
    platform: `${platform()} ${arch()}`,
    pinned,
  };
}

/** Returns the exact versions that were measured: the installed versions instead of the requested ranges. */
export async function versions(peers) {
  const found = { node: process.versions.node };
  for (const peer of peers) {
    if (peer === 'ours' || peer in journals) {
      found['sse-router'] = (await json(new URL('../package.json', import.meta.url))).version;
    } else if (!bare.includes(peer)) found[peer] = await installed(peer);
  }
  if (!('express' in found)) found.express = await installed('express');
  const behind = new Set(peers.flatMap((peer) => journals[peer]?.package ?? []));
  for (const name of behind) found[name] = await installed(name);
  return peers.some((peer) => journals[peer]?.client) ? { ...found, ...(await engineVersion()) } : found;
}

async function installed(name) {
  // A package's exports often hide its package.json, so this looks for the file instead of resolving it.
  for (const directory of createRequire(import.meta.url).resolve.paths(name)) {
    try {
      return (await json(`${directory}/${name}/package.json`)).version;
    } catch {
      // The package may be in the next folder up.
    }
  }
  return 'unknown';
}

const json = async (file) => JSON.parse(await readFile(file, 'utf8'));
