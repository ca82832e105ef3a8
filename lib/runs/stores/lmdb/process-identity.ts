/*
 * Which process produces a run, and whether that process has ended.
 * Invariant: `hasEnded` is true only if the process does not exist. It may be false for a process that has ended: then the lease decides.
 */
import { readFileSync, readlinkSync } from 'node:fs';

/** A process of this machine. */
export interface ProcessIdentity {
  readonly pid: number;
  /** The namespace that the number belongs to: containers that share a directory have the same numbers for other processes. */
  readonly namespace: string;
}

/** Returns the identity of this process. */
export function currentProcess(): ProcessIdentity {
  return { pid: process.pid, namespace: pidNamespace() };
}

/** Whether a process does not exist any more. Another process may have its number meanwhile: then the result is false. */
export function hasEnded(
  { pid, namespace }: ProcessIdentity,
  { pid: ownPid, namespace: ownNamespace }: ProcessIdentity,
): boolean {
  if (namespace !== ownNamespace || pid === ownPid) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as { code?: string }).code === 'ESRCH';
  }
}

/** Returns what identifies the current start of the machine; `undefined` where the system does not provide it. */
export function bootId(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return undefined;
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return process.platform; // outside of Linux, all processes of the machine share the numbers
  }
}
