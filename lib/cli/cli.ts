#!/usr/bin/env node
/*
 * The command `sse-router`: connects run() to the process.
 * Invariant: the exit code is the result of run(). The first signal stops run() in order, a second one ends the process at once.
 */
import { run } from './command.ts';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(signal));
// In `sse-router tail … | head`, head closes our output. Then there is no reader to print for.
for (const output of [process.stdout, process.stderr]) output.on('error', () => stop.abort('EPIPE'));

const { stdout, stderr, env } = process;
void run(process.argv.slice(2), { stdout, stderr, env, signal: stop.signal }).then((code) => (process.exitCode = code));
