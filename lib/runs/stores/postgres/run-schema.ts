/*
 * The tables and functions of runs in Postgres: their names, and the statements that create them.
 * Invariant: at most one generation of a run id is running: an index refuses a second one.
 * Invariant: a chunk is added only by the statement that advances the number of chunks of a running run, so a fenced producer adds none.
 */
import { createHash } from 'node:crypto';
import { SCHEMA_LOCK_CLASS } from '../../../journal/postgres/schema.ts';
import type { FunctionStatement, SchemaObjects } from '../../../journal/postgres/schema-setup.ts';
import { quoteBody, quoteName } from '../../../journal/postgres/sql-text.ts';

/** Chunks that one call of `trim` removes: some 20 ms. */
const TRIM_CHUNKS = 2000;
/** Runs that one call of `trim` looks at. */
const TRIM_RUNS = 50;

/** Where the runs are. All names are quoted. */
export interface RunNames {
  /** Without quotes. */
  readonly schemaName: string;
  readonly schema: string;
  readonly run: string;
  readonly chunk: string;
  readonly begin: string;
  readonly append: string;
  readonly trim: string;
  /** Of LISTEN and NOTIFY, without quotes. */
  readonly channel: string;
  readonly schemaLock: string;
}

/** The names of the runs with the prefix `table` in a schema. */
export function runNames(schema: string, table: string): RunNames {
  const name = (suffix: string): string => `${quoteName(schema)}.${quoteName(`${table}_${suffix}`)}`;
  const hash = createHash('sha256')
    .update(JSON.stringify([schema, table, 'runs']))
    .digest();
  return {
    schemaName: schema,
    schema: quoteName(schema),
    run: name('run'),
    chunk: name('run_chunk'),
    // A number in the name: during a deploy, processes of the old and of the new version run side by side.
    begin: name('run_begin_1'),
    append: name('run_append_1'),
    trim: name('run_trim_1'),
    channel: `${table.slice(0, 36)}_runs_${hash.toString('hex', 4, 12)}`,
    schemaLock: `${SCHEMA_LOCK_CLASS}, ${hash.readInt32BE(0)}`,
  };
}

export function runSchemaObjects(names: RunNames): SchemaObjects {
  return {
    schemaName: names.schemaName,
    schema: names.schema,
    lock: names.schemaLock,
    tables: [names.run, names.chunk],
    tableStatements: runTableStatements(names),
    functions: runFunctionStatements(names),
  };
}

/**
 * The tables. The statements for a migration by hand in the documentation are these.
 * No index has a column that an append or a renewal changes: such an update stays on its page and touches no index (HOT).
 * `expires` of a running run is the time at which it would be dropped if it were never renewed; `trim` moves it.
 */
export function runTableStatements({ run, chunk }: RunNames): string[] {
  return [
    `CREATE TABLE ${run} (
  key uuid PRIMARY KEY,
  n bigint GENERATED ALWAYS AS IDENTITY,
  id bytea NOT NULL,
  generation text NOT NULL,
  status text NOT NULL,
  started timestamptz NOT NULL,
  ended timestamptz,
  chunks bigint NOT NULL,
  bytes bigint NOT NULL,
  lease double precision NOT NULL,
  keep double precision NOT NULL,
  lease_end timestamptz NOT NULL,
  expires timestamptz NOT NULL,
  stop boolean NOT NULL,
  readers timestamptz,
  producer text NOT NULL
) WITH (fillfactor = 50)`,
    `CREATE UNIQUE INDEX ON ${run} (id) WHERE status = 'running'`,
    `CREATE INDEX ON ${run} (id, n)`,
    `CREATE INDEX ON ${run} (expires)`,
    `CREATE INDEX ON ${run} (producer) WHERE stop`,
    `CREATE TABLE ${chunk} (
  run uuid NOT NULL,
  n bigint NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (run, n)
)`,
  ];
}

/** The functions: each with its name. */
export function runFunctionStatements({ run, chunk, begin, append, trim }: RunNames): FunctionStatement[] {
  const ms = (column: string): string => `make_interval(secs => ${column} / 1000)`;
  return [
    {
      name: begin,
      // A call that is sent again after a lost reply finds its own run.
      create: `CREATE FUNCTION ${begin}(run_key uuid, run_id bytea, run_generation text, again text, lease_ms double precision,
  keep_ms double precision, run_producer text, OUT key uuid, OUT replaced uuid)
LANGUAGE plpgsql AS ${quoteBody(`DECLARE
  v_now timestamptz;
BEGIN
  LOOP
    IF EXISTS (SELECT FROM ${run} r WHERE r.key = run_key) THEN
      key := run_key;
      RETURN;
    END IF;
    v_now := clock_timestamp();
    SELECT r.key INTO key FROM ${run} r WHERE r.id = run_id AND r.status = 'running' FOR UPDATE;
    IF FOUND THEN
      IF again <> 'replace' THEN
        RETURN;
      END IF;
      replaced := key;
      UPDATE ${run} r SET status = 'stopped', stop = true, ended = v_now, expires = v_now + ${ms('r.keep')} WHERE r.key = replaced;
    END IF;
    INSERT INTO ${run} (key, id, generation, status, started, chunks, bytes, lease, keep, lease_end, expires, stop, producer)
    VALUES (run_key, run_id, run_generation, 'running', v_now, 0, 0, lease_ms, keep_ms, v_now + ${ms('lease_ms')},
      v_now + ${ms('(lease_ms + keep_ms)')}, false, run_producer)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
      key := run_key;
      RETURN;
    END IF;
  END LOOP;
END`)}`,
    },
    {
      name: append,
      // Each item is one append. It was stored by an earlier attempt if the log ends with it already.
      create: `CREATE FUNCTION ${append}(items json, bodies bytea) RETURNS text
LANGUAGE plpgsql AS ${quoteBody(`DECLARE
  v_item record;
  v_chunks bigint;
  v_status text;
  v_results text := '';
BEGIN
  FOR v_item IN SELECT CAST(e.value ->> 'k' AS uuid) AS key, CAST(e.value ->> 'f' AS bigint) AS first, CAST(e.value ->> 'o' AS integer) AS start,
    CAST(e.value ->> 'b' AS bigint) AS bytes, e.value -> 's' AS sizes, json_array_length(e.value -> 's') AS count
    FROM json_array_elements(items) WITH ORDINALITY e (value, place) ORDER BY e.place
  LOOP
    UPDATE ${run} r SET chunks = r.chunks + v_item.count, bytes = r.bytes + v_item.bytes
    WHERE r.key = v_item.key AND r.status = 'running' AND r.chunks = v_item.first - 1;
    IF FOUND THEN
      INSERT INTO ${chunk} (run, n, data)
      SELECT v_item.key, v_item.first + s.place - 1, substring(bodies FROM CAST(v_item.start + s.until - s.size AS integer) FOR s.size)
      FROM (SELECT e.place, CAST(e.value AS integer) AS size, sum(CAST(e.value AS integer)) OVER (ORDER BY e.place) AS until
        FROM json_array_elements_text(v_item.sizes) WITH ORDINALITY e (value, place)) s;
      v_results := v_results || '1';
    ELSE
      SELECT r.chunks, r.status INTO v_chunks, v_status FROM ${run} r WHERE r.key = v_item.key;
      IF FOUND AND v_chunks = v_item.first - 1 + v_item.count THEN
        v_results := v_results || '1';
      ELSE
        UPDATE ${run} r SET status = CASE WHEN r.stop THEN 'stopped' ELSE 'lost' END, ended = clock_timestamp(),
          expires = clock_timestamp() + ${ms('r.keep')} WHERE r.key = v_item.key AND r.status = 'running';
        v_results := v_results || '0';
      END IF;
    END IF;
  END LOOP;
  RETURN v_results;
END`)}`,
    },
    {
      name: trim,
      // `quiet_ms`: the caller's connection has been undisturbed for so long, so that producers had the time to renew.
      create: `CREATE FUNCTION ${trim}(quiet_ms double precision) RETURNS boolean
LANGUAGE plpgsql AS ${quoteBody(`DECLARE
  v_run record;
  v_now timestamptz := clock_timestamp();
  v_left bigint := ${TRIM_CHUNKS};
  v_removed bigint;
BEGIN
  FOR v_run IN SELECT r.key, r.status, r.lease, r.lease_end + ${ms('r.keep')} AS drop_at FROM ${run} r
    WHERE r.expires <= v_now ORDER BY r.expires LIMIT ${TRIM_RUNS} FOR UPDATE SKIP LOCKED
  LOOP
    IF v_run.status = 'running' AND (v_run.drop_at > v_now OR quiet_ms < v_run.lease) THEN
      UPDATE ${run} r SET expires = greatest(v_run.drop_at, v_now + ${ms('v_run.lease')}) WHERE r.key = v_run.key;
      CONTINUE;
    END IF;
    DELETE FROM ${chunk} c WHERE c.run = v_run.key AND c.n IN
      (SELECT i.n FROM ${chunk} i WHERE i.run = v_run.key ORDER BY i.n LIMIT v_left);
    GET DIAGNOSTICS v_removed = ROW_COUNT;
    v_left := v_left - v_removed;
    IF v_left <= 0 THEN
      UPDATE ${run} r SET status = 'lost', ended = v_now WHERE r.key = v_run.key AND r.status = 'running';
      RETURN true;
    END IF;
    DELETE FROM ${run} r WHERE r.key = v_run.key;
  END LOOP;
  RETURN EXISTS (SELECT FROM ${run} r WHERE r.expires <= v_now);
END`)}`,
    },
  ];
}
