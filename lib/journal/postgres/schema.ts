/*
 * The journal's tables and functions: their names, and the statements that create them.
 */
import { createHash } from 'node:crypto';
import { type PostgresConnection, PostgresError } from './postgres-connection.ts';
import { RESERVED_NAMES } from '../../wire/event-stream.ts';
import { type FunctionStatement, type SchemaObjects, STATE_MISSING, versionLine } from './schema-setup.ts';
import { hexBytes, quoteBody, quoteName, quoteText } from './sql-text.ts';

/** The class of all advisory locks of this package, 'sse!': the second key of a lock names the log. */
const LOCK_CLASS = 0x73736521;
/** The class of the lock under which tables are created, so that appends do not wait for a slow creator. */
export const SCHEMA_LOCK_CLASS = LOCK_CLASS + 1;
/** Outbox rows that one transaction moves: a thousand take some 20 ms. */
export const MOVE_ROWS = 1000;
/** Entries that one transaction removes. More than a group adds, so that a log shrinks to a smaller limit. */
const TRIM_ROWS = 2000;
/** Entries between two looks at the limits within appends. */
const TRIM_EVERY = 64;
/** The largest entry that the outbox takes. */
export const LARGEST_ENTRY_BYTES = 16 * 1024 * 1024;

/**
 * The version of the function that publishes. It has no number in its name, so a higher one replaces a lower one: raise it with each
 * change of the function. Version 1 has no line with its version.
 */
const PUBLISH_VERSION = 2;
/** The event names that `broadcast()` refuses. */
const RESERVED = [...RESERVED_NAMES].map((name) => `'${name}'`);
/** The same within a text of SQL, where a quote is doubled. */
const RESERVED_TEXT = `${RESERVED.slice(0, -1).join(', ')} and ${RESERVED.at(-1)}`.replaceAll("'", "''");

/** The epoch and the tag of a new log, both random, and that it begins with entry 1. */
const STATE_VALUES =
  "left(replace(CAST(gen_random_uuid() AS text), '-', ''), 12), 1, left(CAST(gen_random_uuid() AS text), 8)";

/** Where one log is. All names are quoted. */
export interface Names {
  /** Without quotes. */
  readonly schemaName: string;
  readonly schema: string;
  readonly log: string;
  readonly outbox: string;
  readonly state: string;
  readonly producer: string;
  readonly append: string;
  readonly trim: string;
  readonly cut: string;
  readonly publish: string;
  /** Of LISTEN and NOTIFY, without quotes. */
  readonly channel: string;
  /** The keys of the advisory lock that orders all writes to this log. */
  readonly lock: string;
  readonly schemaLock: string;
}

/** The names of the log with the prefix `table` in a schema. */
export function namesOf(schema: string, table: string): Names {
  const name = (suffix: string): string => `${quoteName(schema)}.${quoteName(`${table}_${suffix}`)}`;
  const hash = createHash('sha256')
    .update(JSON.stringify([schema, table]))
    .digest();
  const key = hash.readInt32BE(0);
  return {
    schemaName: schema,
    schema: quoteName(schema),
    log: name('log'),
    outbox: name('outbox'),
    state: name('state'),
    producer: name('producer'),
    // A number in the name: during a deploy, processes of the old and of the new version run side by side.
    append: name('append_1'),
    trim: name('trim_1'),
    cut: name('cut_1'),
    publish: name('publish'), // applications call it, so it keeps its name
    channel: `${table.slice(0, 40)}_${hash.toString('hex', 4, 12)}`,
    lock: `${LOCK_CLASS}, ${key}`,
    schemaLock: `${SCHEMA_LOCK_CLASS}, ${key}`,
  };
}

/** The tables. The statements for a migration by hand in the documentation are these. */
export function tableStatements(names: Names): string[] {
  const { log, outbox, state, producer } = names;
  return [
    `CREATE TABLE ${log} (
  n bigint PRIMARY KEY,
  tag text NOT NULL,
  at timestamptz NOT NULL,
  channels text,
  excepted text,
  key bytea,
  event text,
  data text,
  body bytea
)`,
    `CREATE UNIQUE INDEX ON ${log} (key) WHERE key IS NOT NULL`,
    `CREATE TABLE ${outbox} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  channels text CHECK (json_typeof(CAST(channels AS json)) = 'array'),
  excepted text CHECK (json_typeof(CAST(excepted AS json)) = 'array'),
  key bytea CHECK (octet_length(key) = 32),
  event text CHECK (event !~ '[\\r\\n]' AND event NOT IN ('error', 'open')),
  data text,
  body bytea,
  CHECK (event IS NOT NULL OR data IS NOT NULL OR body IS NOT NULL),
  CHECK (coalesce(octet_length(channels), 0) + coalesce(octet_length(excepted), 0) + coalesce(octet_length(event), 0)
    + coalesce(octet_length(data), 0) + coalesce(octet_length(body), 0) <= ${LARGEST_ENTRY_BYTES})
)`,
    `CREATE TABLE ${state} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch text NOT NULL,
  first bigint NOT NULL,
  tag text NOT NULL
) WITH (fillfactor = 50)`,
    `CREATE TABLE ${producer} (
  id text PRIMARY KEY,
  seq bigint NOT NULL,
  ids text[] NOT NULL,
  at timestamptz NOT NULL
) WITH (fillfactor = 50)`,
    // The first position of an empty log, so that there is one to hand out.
    `INSERT INTO ${state} (epoch, first, tag) VALUES (${STATE_VALUES})`,
  ];
}

/**
 * The functions: each with its name.
 * A key is looked up by a scalar subquery, which is one index lookup for each row. NOT EXISTS may be planned as a join that reads
 * the whole log for each move.
 */
export function functionStatements(names: Names): FunctionStatement[] {
  const { log, outbox, state, producer, append, cut, trim, publish, lock } = names;
  return [
    {
      name: cut,
      create: `CREATE FUNCTION ${cut}(max_length double precision, max_age double precision) RETURNS boolean
LANGUAGE plpgsql AS ${quoteBody(`DECLARE
  v_first bigint;
  v_head bigint;
  v_to bigint;
  v_young bigint;
  v_last bigint;
  v_tag text;
  v_cutoff timestamptz;
BEGIN
  SELECT s.first INTO v_first FROM ${state} s;
  SELECT l.n INTO v_head FROM ${log} l ORDER BY l.n DESC LIMIT 1;
  IF v_first IS NULL OR v_head IS NULL THEN
    RETURN false;
  END IF;
  v_to := v_first;
  IF max_length IS NOT NULL THEN
    v_to := greatest(v_to, CAST(v_head + 1 - max_length AS bigint));
  END IF;
  v_cutoff := clock_timestamp() - make_interval(secs => max_age / 1000);
  IF EXISTS (SELECT FROM ${log} l WHERE l.n = v_first AND l.at > clock_timestamp()) THEN
    -- The clock was set back. An entry from the future is as old as any later entry at least.
    SELECT max(l.n) + 1 INTO v_young FROM ${log} l WHERE l.at <= v_cutoff;
    v_to := greatest(v_to, coalesce(v_young, v_first));
  ELSIF EXISTS (SELECT FROM ${log} l WHERE l.n = v_first AND l.at <= v_cutoff) THEN
    SELECT min(x.n) FILTER (WHERE x.at > v_cutoff), max(x.n) INTO v_young, v_last
      FROM (SELECT l.n, l.at FROM ${log} l WHERE l.n >= v_first ORDER BY l.n LIMIT ${TRIM_ROWS}) x;
    v_to := greatest(v_to, coalesce(v_young, v_last + 1));
  END IF;
  v_to := least(v_to, v_first + ${TRIM_ROWS}, v_head + 1);
  IF v_to <= v_first THEN
    RETURN false;
  END IF;
  SELECT l.tag INTO v_tag FROM ${log} l WHERE l.n = v_to - 1;
  DELETE FROM ${log} l WHERE l.n < v_to;
  UPDATE ${state} SET first = v_to, tag = v_tag;
  RETURN v_to = v_first + ${TRIM_ROWS};
END`)}`,
    },
    {
      name: trim,
      create: `CREATE FUNCTION ${trim}(max_length double precision, max_age double precision, producer_age double precision) RETURNS boolean
LANGUAGE plpgsql AS ${quoteBody(`BEGIN
  IF NOT pg_try_advisory_xact_lock(${lock}) THEN
    RETURN false;
  END IF;
  DELETE FROM ${producer} p WHERE p.at < clock_timestamp() - make_interval(secs => producer_age / 1000);
  RETURN ${cut}(max_length, max_age);
END`)}`,
    },
    {
      name: append,
      create: `CREATE FUNCTION ${append}(producer_id text, group_seq bigint, entries json, bodies bytea, keyed boolean,
  max_length double precision, max_age double precision, key_age double precision) RETURNS text
LANGUAGE plpgsql AS ${quoteBody(`DECLARE
  v_epoch text;
  v_first bigint;
  v_head bigint;
  v_start bigint;
  v_seq bigint;
  v_ids text[];
  v_taken bigint := 0;
  v_count bigint := 0;
  v_now timestamptz;
  v_expired timestamptz;
  v_tag text := left(CAST(gen_random_uuid() AS text), 8);
  v_item record;
  v_key bytea;
  v_id text;
BEGIN
  PERFORM pg_advisory_xact_lock(${lock});
  SELECT s.epoch, s.first INTO v_epoch, v_first FROM ${state} s;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = '${STATE_MISSING}', MESSAGE = ${quoteText(`the row of ${state} is missing`)};
  END IF;
  IF group_seq > 0 THEN
    SELECT p.seq, p.ids INTO v_seq, v_ids FROM ${producer} p WHERE p.id = producer_id;
    IF FOUND AND v_seq >= group_seq THEN
      RETURN v_epoch || '|0|0|' || array_to_string(v_ids, ',');
    END IF;
  END IF;
  SELECT l.n INTO v_head FROM ${log} l ORDER BY l.n DESC LIMIT 1;
  v_head := coalesce(v_head, v_first - 1);
  v_start := v_head;
  v_now := clock_timestamp();
  v_expired := v_now - make_interval(secs => key_age / 1000);
  IF EXISTS (SELECT FROM ${outbox}) THEN
    FOR v_key IN SELECT o.key FROM ${outbox} o WHERE o.key IS NOT NULL ORDER BY o.id LIMIT ${MOVE_ROWS} LOOP
      UPDATE ${log} l SET key = NULL WHERE l.key = v_key AND l.at <= v_expired;
    END LOOP;
    WITH taken AS (
      DELETE FROM ${outbox} o WHERE o.id IN (SELECT i.id FROM ${outbox} i ORDER BY i.id LIMIT ${MOVE_ROWS}) RETURNING o.*
    ), ranked AS (
      SELECT t.*, row_number() OVER (PARTITION BY t.key ORDER BY t.id) AS nth FROM taken t
    ), fresh AS (
      SELECT r.*, row_number() OVER (ORDER BY r.id) AS place FROM ranked r
      WHERE r.key IS NULL OR (r.nth = 1 AND (SELECT l.n FROM ${log} l WHERE l.key = r.key) IS NULL)
    ), stored AS (
      INSERT INTO ${log} (n, tag, at, channels, excepted, key, event, data, body)
      SELECT v_head + f.place, v_tag, v_now, f.channels, f.excepted, f.key, f.event, f.data, f.body FROM fresh f
      RETURNING 1
    )
    SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM stored) INTO v_taken, v_count;
    v_head := v_head + v_count;
    IF v_taken = ${MOVE_ROWS} AND EXISTS (SELECT FROM ${outbox}) THEN
      RETURN v_epoch || '|' || v_count || '|1|';
    END IF;
  END IF;
  IF group_seq > 0 THEN
    IF keyed THEN
      v_ids := '{}';
      FOR v_item IN SELECT e.value FROM json_array_elements(entries) WITH ORDINALITY e (value, place) ORDER BY e.place LOOP
        v_key := decode(v_item.value ->> 'k', 'hex');
        v_id := NULL;
        IF v_key IS NOT NULL THEN
          UPDATE ${log} l SET key = NULL WHERE l.key = v_key AND l.at <= v_expired;
          SELECT l.n || '-' || l.tag INTO v_id FROM ${log} l WHERE l.key = v_key;
        END IF;
        IF v_id IS NULL THEN
          v_head := v_head + 1;
          v_id := v_head || '-' || v_tag;
          INSERT INTO ${log} (n, tag, at, channels, excepted, key, body)
          VALUES (v_head, v_tag, v_now, v_item.value ->> 't', v_item.value ->> 'x', v_key,
            substring(bodies FROM CAST(v_item.value ->> 'o' AS integer) FOR CAST(v_item.value ->> 's' AS integer)));
        END IF;
        v_ids := v_ids || v_id;
      END LOOP;
    ELSE
      INSERT INTO ${log} (n, tag, at, channels, excepted, body)
      SELECT v_head + e.place, v_tag, v_now, e.value ->> 't', e.value ->> 'x',
        substring(bodies FROM CAST(e.value ->> 'o' AS integer) FOR CAST(e.value ->> 's' AS integer))
      FROM json_array_elements(entries) WITH ORDINALITY e (value, place);
      GET DIAGNOSTICS v_count = ROW_COUNT;
      v_ids := ARRAY[(v_head + 1) || '-' || v_tag];
      v_head := v_head + v_count;
    END IF;
    UPDATE ${producer} SET seq = group_seq, ids = v_ids, at = v_now WHERE id = producer_id;
    IF NOT FOUND THEN
      INSERT INTO ${producer} (id, seq, ids, at) VALUES (producer_id, group_seq, v_ids, v_now);
    END IF;
  END IF;
  IF v_head / ${TRIM_EVERY} <> v_start / ${TRIM_EVERY} THEN
    PERFORM ${cut}(max_length, max_age);
  END IF;
  RETURN v_epoch || '|' || (v_head - v_start) || '|0|' || coalesce(array_to_string(v_ids, ','), '');
END`)}`,
    },
    {
      name: publish,
      // Processes of a version before run beside this one, and their check finds this function too: it has the same arguments.
      version: PUBLISH_VERSION,
      create: `CREATE OR REPLACE FUNCTION ${publish}(event text, data text, channels text DEFAULT NULL, key text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER AS ${quoteBody(`${versionLine(PUBLISH_VERSION)}
DECLARE
  v_channels json;
  v_syntax text;
BEGIN
  IF event IS NULL AND data IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = 'event or data must be a text; received NULL for both.', HINT = 'Pass '''' as the data of an event without content.';
  END IF;
  IF event ~ '[\\r\\n]' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = concat('event must be a text without a line end; received the string ', to_json(left(event, 60)), '.'),
      HINT = 'Pass the lines as data.';
  END IF;
  IF event IN (${RESERVED.join(', ')}) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = concat('event must be a name other than ${RESERVED_TEXT}; received the string ',
        to_json(event), '.'),
      HINT = 'Use another name. The function refuses these names also for a router with controlEvents: false.';
  END IF;
  IF channels IS NOT NULL THEN
    BEGIN
      v_channels := CAST(channels AS json);
    EXCEPTION WHEN invalid_text_representation THEN
      v_syntax := SQLERRM;
    END;
    IF (CASE json_typeof(v_channels) WHEN 'array' THEN
      EXISTS (SELECT FROM json_array_elements(v_channels) e WHERE json_typeof(e.value) <> 'string' OR CAST(e.value AS text) = '""')
      ELSE true END) THEN
      RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = concat('channels must be a JSON array of strings, none of them empty; received the string ',
          to_json(left(channels, 60)), coalesce(' (' || v_syntax || ')', ''), '.'),
        HINT = 'Pass ''["room:7"]'', or NULL for every connection.';
    END IF;
  END IF;
  IF key = '' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = 'key must be a text with at least one character; received the string "".', HINT = 'Pass NULL for an event without a key.';
  END IF;
  INSERT INTO ${outbox} (event, data, channels, key)
  VALUES (event, coalesce(data, ''), channels, sha256(convert_to(key, 'UTF8')));
END`)}`,
    },
  ];
}

/** The objects of a journal, and the check that its state is there. */
export function schemaObjects(names: Names): SchemaObjects {
  return {
    schemaName: names.schemaName,
    schema: names.schema,
    lock: names.schemaLock,
    tables: [names.log, names.outbox, names.state, names.producer],
    tableStatements: tableStatements(names),
    functions: functionStatements(names),
    check: (connection) => assertStateRow(connection, names),
  };
}

async function assertStateRow(connection: PostgresConnection, { state }: Names): Promise<void> {
  const [row] = await connection.query(`SELECT count(*) FROM ${state}`);
  if (row?.[0] === '1') return;
  throw new PostgresError(
    STATE_MISSING,
    new Error(`the row of ${state} is missing: a restore is running or has failed`),
  );
}

/** Puts an entry into the outbox: the statement that runs in the application's transaction. INSERT is all it needs. */
export function outboxStatement(
  { outbox }: Names,
  entry: {
    readonly channels: string;
    readonly excepted: string;
    readonly key: Uint8Array | undefined;
    readonly body: Uint8Array;
  },
): string {
  return (
    `INSERT INTO ${outbox} (channels, excepted, key, body) ` +
    `VALUES (${entry.channels}, ${entry.excepted}, ${hexBytes(entry.key)}, ${hexBytes(entry.body)})`
  );
}
