// Runs `npm run bench -- runs`: every row with every peer under the same conditions, and writes docs/runs-comparison.md.
// Invariant: a figure is printed only if its readers received every token once and in order.
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { createClient } from 'redis';
import { startEngine } from '../../engines.mjs';
import { machineTime } from '../../gauges.mjs';
import { journals } from '../../journals.mjs';
import { machine, versions } from '../../machine.mjs';
import { Child, endAll } from '../../processes.mjs';
import { median, percentile } from '../../statistics.mjs';

const PEERS = ['ours', 'resumable-stream', 'assistant-stream'];
const BATCHES = [0, 20];
const ANSWER = { count: 200, every: 10 };
const JOIN_AFTER = 300;
/** The numbers of runs that are tried over three processes. */
const RUNS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000];
/**
 * A number of runs is too large if more than 1 % of the tokens take this many milliseconds: then the processes fall behind. Measured
 * with 1,000 runs over 15 s on two cores: the median was between 120 and 202 ms in each half of a second after the first two seconds.
 */
const BOUND = 1000;
/**
 * The seconds of tokens that are made first, and whose latency does not count: the processes have just started, and Node has not
 * compiled their code. Measured with 200 runs: 99 % took 169 ms in the first half of a second, and 12 ms in the second half. Later,
 * the full garbage collections of the server are all that exceeds 30 ms: its marking threads share its core, for 60 to 120 ms.
 */
const WARM_UP = 2;
const MEASURED = 5;
const OBSERVED = 25_000; // more than the default lease of a run, and than two intervals of the watchdog of resumable-stream

const serverCore = 0;
const readerCore = 1;

const engine = await startEngine(journals['node-redis'], readerCore);
const url = engine.log().at;
const redis = await createClient({ url }).connect();
const readers = new Child('./scenarios/runs/readers.mjs', { core: readerCore });
const only = process.argv.slice(3);

/** Starts a process that produces and serves runs. */
async function startServer(peer, { core, ...options } = {}) {
  const server = new Child('./scenarios/runs/server.mjs', { core, args: [peer, JSON.stringify({ url, ...options })] });
  return { server, ...(await server.call('listen')) };
}

/** Calls `measure(producer, other)` with two processes of a peer: one that produces, and one that the readers use. */
async function withTwo(peer, options, measure) {
  const [producer, other] = await Promise.all([startServer(peer, options), startServer(peer, options)]);
  try {
    return await measure(producer, other);
  } finally {
    // Not a shutdown: connections and runs that are still open would delay it.
    await Promise.all([producer.server.kill(), other.server.kill()]);
  }
}

async function join({ port }, id, more = {}) {
  const name = randomUUID();
  const path = `/runs/${id}${more.query ?? ''}`;
  const headers = more.lastEventId === undefined ? {} : { 'Last-Event-ID': more.lastEventId };
  const { status } = await readers.call('open', { name, port, path, headers });
  return { name, status };
}

const reportOf = ({ name }) => readers.call('report', { name });
const over = (names, timeout) => readers.call('over', { names: names.map(({ name }) => name), timeout });
const commands = async () => Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))[1]);

const whole = ({ count, faults, last }, expected) => faults === 0 && count === expected && last === expected;

/** Returns the hours until the newest key of a run expires. */
async function hoursKept(id) {
  const keys = await redis.keys(`*${id}*`);
  const times = await Promise.all(keys.map((key) => redis.pTTL(key)));
  return Math.max(0, ...times) / 3_600_000;
}

const kept = (hours) => (hours >= 1 ? `${Math.round(hours)} h` : `${Math.round(hours * 60)} min`);
const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const seconds = (value) => `${(value / 1000).toFixed(1)} s`;

function requireWhole(reports, expected) {
  const bad = reports.find((report) => !whole(report, expected));
  if (bad)
    throw new Error(
      `a reader received ${bad.count} of ${expected} tokens, with ${bad.faults} out of order, and ${bad.isOver ? `the end ${bad.end}` : 'no end'}`,
    );
}

/** One answer with late readers: the latency of its live tokens, the commands of Redis, and a join after its end. */
async function late(peer, batch, count) {
  return withTwo(peer, { batch }, async (producer, other) => {
    const id = randomUUID();
    const before = await commands();
    await producer.server.call('start', { id, ...ANSWER });
    await pause(JOIN_AFTER);
    const joined = await Promise.all(Array.from({ length: count }, () => join(other, id)));
    await over(joined, 10_000);
    const used = (await commands()) - before - 1; // without the INFO of this process
    const reports = await Promise.all(joined.map(reportOf));
    requireWhole(reports, ANSWER.count);
    const latencies = reports.flatMap(({ late }) => late);
    const result = { p50: median(latencies), p99: percentile(latencies, 99), commands: used };
    if (count > 1) return result;
    await pause(500);
    const after = await join(other, id);
    await over([after], 5_000);
    const report = await reportOf(after);
    const hours = await hoursKept(id);
    if (report.count === 0) return { ...result, after: `nothing: ${after.status}` };
    requireWhole([report], ANSWER.count);
    return { ...result, after: `everything${report.end ? ', and the end' : ''}; kept for ${kept(hours)}` };
  });
}

/** Kills the producer: what a joined reader, a new one and a further one receive. */
async function kill(peer) {
  return withTwo(peer, {}, async (producer, other) => {
    const id = randomUUID();
    await producer.server.call('start', { id, ...ANSWER });
    await pause(JOIN_AFTER);
    const joined = await join(other, id);
    await pause(500);
    await producer.server.kill();
    const killedAt = machineTime();
    const [fresh] = await Promise.all([
      join(other, id).then(async (one) => {
        await over([one], OBSERVED);
        return reportOf(one);
      }),
      over([joined], OBSERVED),
    ]);
    const again = await join(other, id);
    await over([again], 3_000);
    const hours = await hoursKept(id);
    return {
      joined: outcome(await reportOf(joined), killedAt, hours),
      fresh: outcome(fresh, fresh.openedAt, hours),
      again: outcome(await reportOf(again), (await reportOf(again)).openedAt, hours),
    };
  });
}

function outcome({ status, end, isOver, overAt, count }, since, hours) {
  const had = count > 0 ? `${count} tokens, then ` : '';
  if (!isOver) return `${had}open after ${seconds(OBSERVED)}; its key expires after ${kept(hours)}`;
  if (status !== 200) return `${status} after ${seconds(overAt - since)}`;
  return `${had}${end === undefined ? 'an end without a status' : `the end \`${end}\``} after ${seconds(overAt - since)}`;
}

const AFTER = 50;

/** A reader that has the first tokens asks for the rest, while the run continues. */
async function resume(peer) {
  return withTwo(peer, {}, async (producer, other) => {
    const id = randomUUID();
    await producer.server.call('start', { id, ...ANSWER });
    await pause(AFTER * ANSWER.every + JOIN_AFTER);
    const first = await join(other, id);
    await pause(JOIN_AFTER);
    const { ids } = await reportOf(first);
    const characters = ids[AFTER] === undefined ? await charactersOf(other, id) : undefined;
    const second = await join(other, id, { lastEventId: ids[AFTER] ?? undefined, query: `?skip=${characters ?? 0}` });
    await over([second], 5_000);
    const report = await reportOf(second);
    const from =
      report.first === AFTER + 1 ? `continues at token ${AFTER + 1}` : `everything again, from token ${report.first}`;
    if (peer === 'ours') return `by event id, which an \`EventSource\` sends by itself: ${from}`;
    return peer === 'resumable-stream' ? `by the number of characters, which the client counts: ${from}` : from;
  });
}

/** Returns the characters of the first tokens, as a client counts them that stores the whole text. */
async function charactersOf({ port }, id) {
  const response = await fetch(`http://127.0.0.1:${port}/runs/${id}`);
  let text = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    text += decoder.decode(bytes, { stream: true });
    const frames = text.split('\n\n');
    if (frames.length > AFTER) return frames.slice(0, AFTER).join('\n\n').length + 2;
  }
  throw new Error('The run ended before its reader had enough of it');
}

/** Stops a run in another process: the times until its generator is aborted, and until its reader has the end. */
async function stop(peer) {
  return withTwo(peer, {}, async (producer, other) => {
    if (!(await other.server.call('canStop'))) return 'none';
    const samples = [];
    for (let i = 0; i < 9; i++) {
      const id = randomUUID();
      await producer.server.call('start', { id, ...ANSWER });
      await pause(JOIN_AFTER);
      const reader = await join(other, id);
      await pause(100);
      const at = machineTime();
      await other.server.call('stop', { id });
      await over([reader], 5_000);
      const { overAt, end } = await reportOf(reader);
      if (peer === 'ours' && end !== 'stopped')
        throw new Error(`The reader of a stopped run must receive the end stopped; received ${end}`);
      samples.push({
        producer: (await producer.server.call('stopped', { id, timeout: 1_000 })) - at,
        reader: overAt - at,
      });
    }
    const of = (key) => ms(median(samples.map((sample) => sample[key])));
    const times = `producer ${of('producer')}, reader ${of('reader')}`;
    return peer === 'ours' ? times : `only by deleting the run, with its tokens: ${times}`;
  });
}

/** Joins an answer of 10 MB that has not ended. */
async function large(peer) {
  const pace = { count: 10_240, every: 0, bytes: 1024 - 60, hold: true };
  return withTwo(peer, { maxBytes: 64 * 2 ** 20 }, async (producer, other) => {
    await readers.call('clear');
    const id = randomUUID();
    await producer.server.call('start', { id, ...pace });
    await pause(peer === 'assistant-stream' ? 9_000 : 4_000); // until all of it is stored
    const samples = [];
    for (let i = 0; i < 3; i++) {
      const reader = await join(other, id);
      await readers.call('received', { last: pace.count, timeout: 20_000 });
      const report = await reportOf(reader);
      requireWhole([report], pace.count);
      if (report.late.length > 0) throw new Error('The answer must be complete before it is joined');
      samples.push(report.lastArrival - report.openedAt);
      await readers.call('clear');
    }
    return { ms: median(samples), bytes: pace.count * 1024 };
  });
}

/** The processor time of a process that sends one run to many readers, or one broadcast to many connections. */
async function cost(peer) {
  const size = { readers: 1000, count: 60, every: 50 };
  await readers.call('clear');
  const { server, port } = await startServer(peer, { core: serverCore });
  try {
    const id = randomUUID();
    await server.call('start', { id, count: size.count, every: size.every, isGated: true });
    const { refused } = await readers.call('openMany', { count: size.readers, ports: [port], path: `/runs/${id}` });
    if (refused > 0) throw new Error(`${refused} readers were refused`);
    await pause(500);
    await server.call('go');
    await readers.call('received', { last: size.count, timeout: 40_000 });
    const { cpu, ms: took } = await server.call('cost');
    const reports = await readers.call('reports');
    requireWhole(reports, size.count);
    return { cpu: cpu / (size.readers * size.count), took, due: size.count * size.every };
  } finally {
    await readers.call('clear');
    await server.kill();
  }
}

/**
 * Many runs, with a reader each or without one, in processes of one peer. With several processes, each reader reads at another process
 * than the one that produces its run, and the processes and the readers share all cores.
 */
async function many(peer, { runs, hasReaders, batch, processes = 1, timeout = 15_000 }) {
  const pace = { runs, every: 20, count: (WARM_UP + MEASURED) * 50, isDue: true, isGated: true };
  await readers.call('clear');
  const core = processes === 1 ? serverCore : undefined;
  const started = await Promise.all(Array.from({ length: processes }, () => startServer(peer, { core, batch })));
  const each = (name, args) => Promise.all(started.map(({ server }, n) => server.call(name, { ...args, n })));
  try {
    await each('startMany', { ...pace, of: processes });
    if (hasReaders) {
      const ports = started.map(({ port }) => port);
      const { refused } = await readers.call('openMany', { count: runs, ports, path: '/runs/run-*' });
      if (refused > 0) throw new Error(`${refused} readers were refused`);
    }
    await pause(500);
    const begun = machineTime();
    await each('go');
    const finished = await each('finished', { timeout });
    if (!finished.every(({ isFinished }) => isFinished)) return { isFinished: false };
    const costs = await each('cost');
    const [took, cpu] = [Math.max(...costs.map(({ ms }) => ms)), costs.reduce((sum, { cpu }) => sum + cpu, 0)];
    const result = {
      isFinished: true,
      cores: cpu / 1000 / took,
      loop: Math.max(...costs.map(({ loop }) => loop)),
      rate: (runs * pace.count) / (took / 1000),
    };
    if (!hasReaders) return result;
    if (!(await readers.call('received', { last: pace.count, timeout }))) return { isFinished: false };
    const reports = await readers.call('reports');
    requireWhole(reports, pace.count);
    const latencies = reports.flatMap(({ late }) => late.slice(WARM_UP * 50));
    const last = Math.max(...reports.map(({ lastArrival }) => lastArrival));
    const rate = (runs * pace.count) / ((last - begun) / 1000);
    return { ...result, rate, p50: median(latencies), p99: percentile(latencies, 99) };
  } finally {
    await readers.call('clear');
    await Promise.all(started.map(({ server }) => server.kill()));
  }
}

/**
 * Finds the largest of `RUNS` over three processes for which 99 % of the tokens arrive within `BOUND`: tries the last one, then halves.
 * A number that is too large is tried twice, because another program may have used the cores.
 */
async function mostRuns(peer) {
  const attempt = async (runs) => {
    const result = await many(peer, { runs, hasReaders: true, processes: 3, timeout: 9_000 });
    return result.isFinished && result.p99 <= BOUND ? { runs, ...result } : undefined;
  };
  let best;
  let [low, high] = [0, RUNS.length - 1];
  for (let index = high; low <= high; index = (low + high) >> 1) {
    const found = (await attempt(RUNS[index])) ?? (await attempt(RUNS[index]));
    if (found === undefined) high = index - 1;
    else [best, low] = [found, index + 1];
  }
  return best;
}

const rows = [];

/** Adds a row; a peer whose measurement fails has the reason in its cell. */
async function row(title, peers, measure) {
  if (only.length > 0 && !only.some((word) => title.includes(word))) return;
  const cells = [];
  for (const peer of peers) {
    try {
      cells.push(await measure(peer));
    } catch (error) {
      cells.push(`no figure: ${error.message.split('\n')[0]}`);
    }
  }
  rows.push([title, ...cells]);
  console.log(rows.at(-1).join(' | '));
}

/** Memoizes measurements that fill several rows. */
function once(measure) {
  const results = new Map();
  return (...args) => {
    const key = JSON.stringify(args);
    if (!results.has(key)) results.set(key, measure(...args));
    return results.get(key);
  };
}

const lateOnce = once(late);
const killOnce = once(kill);
const byBatch = async (peer, cell) => {
  if (peer !== 'ours') return cell(20);
  const cells = [];
  for (const batch of BATCHES) cells.push(`\`batch: ${batch}\`: ${await cell(batch)}`);
  return cells.join('; ');
};
const UNFINISHED = `${WARM_UP + MEASURED} s of tokens are not finished after 15 s`;
const thousands = (rate) => `${(rate / 1000).toFixed(1)}k`;
const latency = ({ p50, p99 }) => `${ms(p50)} (99 %: ${ms(p99)})`;

let exit = 0;
try {
  // The kills of all peers at the same time, because they only wait.
  if (only.length === 0 || only.includes('kill')) await Promise.allSettled(PEERS.map((peer) => killOnce(peer)));
  await row('join after the end', PEERS, async (peer) => (await lateOnce(peer, 20, 1)).after);
  await row('producer `kill -9`, then join', PEERS, async (peer) => (await killOnce(peer)).fresh);
  await row('… and a join after that', PEERS, async (peer) => (await killOnce(peer)).again);
  await row('joined, then producer `kill -9`', PEERS, async (peer) => (await killOnce(peer)).joined);
  await row('latency of a live token at a late reader', PEERS, (peer) =>
    byBatch(peer, async (batch) => latency(await lateOnce(peer, batch, 1))),
  );
  await row('commands of Redis for 200 tokens and 1 reader', PEERS, (peer) =>
    byBatch(peer, async (batch) => (await lateOnce(peer, batch, 1)).commands),
  );
  await row('… and 5 readers', PEERS, (peer) =>
    byBatch(peer, async (batch) => (await lateOnce(peer, batch, 5)).commands),
  );
  await row('resume by position', PEERS, resume);
  await row('stop from another process', PEERS, stop);
  await row('join of an answer of 10 MB', PEERS, async (peer) => ms((await large(peer)).ms));
  const costs = once(cost);
  await row('CPU per token and reader, 1 run with 1,000 readers', PEERS, async (peer) => {
    const { cpu, took, due } = await costs(peer);
    const behind = took > due * 1.1 ? `, and ${seconds(took)} for ${seconds(due)} of tokens` : '';
    return `${cpu.toFixed(1)} µs${behind}`;
  });
  await row(
    '… of a broadcast of `sse()` to 1,000 connections',
    ['broadcast'],
    async () => `${(await costs('broadcast')).cpu.toFixed(1)} µs`,
  );
  await row('1,000 runs at 50 tokens/s in one process, no reader', PEERS, async (peer) => {
    const { isFinished, rate, cores, loop } = await many(peer, { runs: 1000, hasReaders: false });
    if (!isFinished) return UNFINISHED;
    return `${thousands(rate)} tokens/s, ${cores.toFixed(2)} core, event loop 99 %: ${ms(loop)}`;
  });
  await row('200 runs at 50 tokens/s with a reader each in one process: latency', PEERS, (peer) =>
    byBatch(peer, async (batch) => {
      const result = await many(peer, { runs: 200, hasReaders: true, batch });
      return result.isFinished ? `${latency(result)}, ${result.cores.toFixed(2)} core` : UNFINISHED;
    }),
  );
  await row(
    '1,000 runs at 50 tokens/s with a reader each over three processes, or as many as possible',
    PEERS,
    async (peer) => {
      const result = await mostRuns(peer);
      if (result === undefined) return `fewer than ${RUNS[0]} runs`;
      const { runs, rate, cores } = result;
      return `${runs.toLocaleString('en')} runs: ${thousands(rate)} tokens/s, ${latency(result)}, ${cores.toFixed(2)} cores`;
    },
  );
  await write();
} catch (error) {
  console.error(error);
  exit = 1;
} finally {
  redis.destroy();
  await endAll();
  await engine.stop();
}
process.exit(exit);

async function write() {
  const found = await versions(['resumable-stream', 'assistant-stream', 'node-redis']);
  const { cpu, cores } = machine();
  const columns = ['', '`sse-router/runs`', ...PEERS.slice(1).map((peer) => `${peer} ${found[peer]}`)];
  const path = new URL('../../../docs/runs-comparison.md', import.meta.url);
  const text = await readFile(path, 'utf8');
  const [before, inner] = text.split('<!-- begin: npm run bench -- runs -->');
  const [written, after] = inner.split('<!-- end -->');
  const line = (cells) => `| ${[...cells, ...columns.map(() => '')].slice(0, columns.length).join(' | ')} |`;
  const measured = new Map(rows.map((cells) => [cells[0], line(cells)]));
  // A run of some rows replaces only these.
  const present =
    only.length === 0
      ? []
      : written
          .split('\n')
          .filter((row) => row.startsWith('| '))
          .slice(2);
  const lines = present.map((row) => measured.get(row.slice(2).split(' | ')[0]) ?? row);
  const table = [
    line(columns),
    line(columns.map(() => '---')),
    ...(present.length > 0 ? lines : measured.values()),
  ].join('\n');
  const date = new Date().toISOString().slice(0, 10);
  const stamp = `Run on ${date} with Node ${found.node}, Redis ${found['redis-server']}, redis ${found.redis} and ${cores} cores (${cpu}).`;
  await writeFile(path, `${before}<!-- begin: npm run bench -- runs -->\n${stamp}\n\n${table}\n<!-- end -->${after}`);
}
