#!/usr/bin/env node
/*
 * The command `sse-router`: the process around run().
 * Knows the process: its arguments, streams and signals, and nothing else.
 * Invariant: the exit code is run()'s; a signal stops it in order, the second one at once.
 */
import { run } from './command.ts';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(signal));
// `sse-router tail … | head` closes our output: there is nobody left to print for.
for (const output of [process.stdout, process.stderr]) output.on('error', () => stop.abort('EPIPE'));

const { stdout, stderr, env } = process;
void run(process.argv.slice(2), { stdout, stderr, env, signal: stop.signal }).then((code) => (process.exitCode = code));
