// Runs `npm run bench -- bloat`: how large the tables of the journal in Postgres become while a million events pass through them at
// a limited rate, with the default bounds and the autovacuum of a new server. At full speed the figures would be those of a server
// whose autovacuum, which starts once a minute, has not started yet.
// Invariant: a process that is stopped for a while does not append the missing events at once: the rate never exceeds the given one.
import { parseArgs } from 'node:util';
import { clientCore } from '../bed.mjs';
import { startEngine } from '../engines.mjs';
import { frame, payload } from '../events.mjs';
import { journals, openJournal } from '../journals.mjs';
import { machine, versions } from '../machine.mjs';
import { median, percentile } from '../statistics.mjs';

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    events: { type: 'string', default: '1000000' },
    rate: { type: 'string', default: '2000' }, // per second
    every: { type: 'string', default: '30' }, // seconds between two reports
  },
});
const [events, rate, reportMs] = [Number(values.events), Number(values.rate), Number(values.every) * 1000];

const BYTES = 200;
const TICK_MS = 20; // the appends of a tick share a group
const OUTBOX_EVERY = 10; // every tenth group goes through the outbox, in a transaction of its own
const READS = 25; // of the last row, for each report

const engine = await startEngine(journals.postgres, clientCore);
const log = engine.log();
const { default: pg } = await import('pg');
const pool = new pg.Pool({ connectionString: log.at });
const journal = await openJournal(log);
await journal.open();

const around = frame(payload(0, 100)).length - 100;
const perTick = Math.max(1, Math.round((rate * TICK_MS) / 1000));
let seq = 0;
let appended = []; // ms that each group took, since the last report
const body = () => frame(payload(++seq, BYTES - around));

/** Appends one group, or commits it in a transaction of the application. */
async function group(throughOutbox) {
  const count = Math.min(perTick, events - seq);
  const since = performance.now();
  if (throughOutbox) {
    const client = await pool.connect();
    try {
      await client.query('BEGIN');
      for (let i = 0; i < count; i++) await journal.within(client).append({ body: body() });
      await client.query('COMMIT');
    } finally {
      client.release();
    }
  } else {
    await Promise.all(Array.from({ length: count }, () => journal.append({ body: body() })));
    appended.push(performance.now() - since);
  }
}

/** Returns the sizes in bytes and the rows of all tables, and the ms of a read of the last row. */
async function sizes() {
  const { rows } = await pool.query(
    `SELECT c.relname AS name, pg_table_size(c.oid) AS heap, pg_indexes_size(c.oid) AS indexes, s.n_dead_tup AS dead,
      s.autovacuum_count AS vacuums FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.relname LIKE $1`,
    [`${log.key}\\_%`],
  );
  const tables = Object.fromEntries(
    rows.map(({ name, ...row }) => [
      name.slice(log.key.length + 1),
      Object.fromEntries(Object.entries(row).map(([key, value]) => [key, Number(value)])),
    ]),
  );
  const reads = [];
  for (let i = 0; i < READS; i++) {
    const since = performance.now();
    await pool.query({ name: 'last', text: `SELECT n, tag FROM ${log.key}_log ORDER BY n DESC LIMIT 1` });
    reads.push(performance.now() - since);
  }
  return { tables, read: median(reads) };
}

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
const header = [
  'events',
  's',
  'log MiB',
  'its indexes MiB',
  'its dead rows',
  'its vacuums',
  'outbox MiB',
  'its dead rows',
  'state and producers KiB',
  'last row ms',
  'append p50 ms',
  'p99 ms',
  'CPU of the database, cores',
];
const largest = {};
const begun = performance.now();
let before = { at: begun, cpu: await engine.cpu() };

async function report() {
  const { tables, read } = await sizes();
  const now = { at: performance.now(), cpu: await engine.cpu() };
  const { log: entries, outbox, state, producer } = tables;
  const whole = ({ heap, indexes }) => heap + indexes;
  for (const [name, table] of Object.entries(tables)) largest[name] = Math.max(largest[name] ?? 0, whole(table));
  const cores = now.cpu === undefined ? '–' : ((now.cpu - before.cpu) / (now.at - before.at)).toFixed(2);
  before = now;
  const cells = [
    seq,
    Math.round((now.at - begun) / 1000),
    mib(entries.heap),
    mib(entries.indexes),
    entries.dead,
    entries.vacuums,
    mib(whole(outbox)),
    outbox.dead,
    Math.round((whole(state) + whole(producer)) / 1024),
    read.toFixed(2),
    percentile(appended, 50)?.toFixed(1) ?? '–',
    percentile(appended, 99)?.toFixed(1) ?? '–',
    cores,
  ];
  appended = [];
  console.log(`| ${cells.join(' | ')} |`);
}

try {
  const { cpu, cores } = machine();
  const { rows } = await pool.query('SHOW server_version');
  const found = { ...(await versions(['postgres'])), postgres: rows[0].server_version };
  console.log(`${new Date().toISOString().slice(0, 10)}, ${cpu}, ${cores} cores; ${JSON.stringify(found)}`);
  console.log(`${events} events of ${BYTES} bytes, at most ${rate} per second in groups of ${perTick}\n`);
  console.log(`| ${header.join(' | ')} |\n|${header.map(() => '---:').join('|')}|`);
  let reportAt = begun + reportMs;
  for (let n = 0; seq < events; n++) {
    const since = performance.now();
    await group(n % OUTBOX_EVERY === 0);
    if (performance.now() >= reportAt) {
      await report();
      reportAt = performance.now() + reportMs;
    }
    await new Promise((resolve) => setTimeout(resolve, TICK_MS - (performance.now() - since)));
  }
  await report();
  const { entries } = await journal.window(1);
  const [, last] = entries[0].id.split('-');
  // The last transaction may still be in the outbox; everything else must be in the log.
  if (events - Number(last) > perTick) throw new Error(`the last entry of the log is ${last}, not ${events}`);
  const peaks = Object.entries(largest).map(([name, bytes]) => `${name} ${mib(bytes)} MiB`);
  console.log(`\nLargest at a report, with indexes: ${peaks.join(', ')}.`);
} finally {
  await journal.close();
  await pool.end();
  await engine.stop();
}
process.exit();
