/*
 * Creates the tables and functions of this package where they are missing.
 * Invariant: only open() creates, and only what is missing, or a function of a lower version. A process of an older version never
 * replaces a function of a newer one. A follower that created tables while a dump is restored would make the
 * restore fail in the middle.
 */
import { type PostgresConnection, PostgresError } from './postgres-connection.ts';
import { quoteText } from './sql-text.ts';

/** SQLSTATE of our own: a table or the state row is missing. */
export const STATE_MISSING = 'SSE01';

/** One function: its quoted name, and the statement that creates it. */
export interface FunctionStatement {
  readonly name: string;
  readonly create: string;
  /** Of a function whose name has no number. `create` replaces a lower version, whose body has no {@link versionLine} or a lower one. */
  readonly version?: number;
}

/** What belongs together in one schema. Names are quoted, except `schemaName`. */
export interface SchemaObjects {
  readonly schemaName: string;
  readonly schema: string;
  /** The keys of the advisory lock under which they are created. */
  readonly lock: string;
  readonly tables: readonly string[];
  readonly tableStatements: readonly string[];
  readonly functions: readonly FunctionStatement[];
  /** Rejects if the tables are there but are not complete. */
  readonly check?: (connection: PostgresConnection) => Promise<void>;
}

/** The first line in the body of a function with a version. */
export function versionLine(version: number): string {
  return `-- version ${version}`;
}

/**
 * Creates what is missing. All tables come into being in one transaction, so a part of them means that a restore is running or
 * has failed: then this throws an error that waiting may cure.
 */
export async function ensureSchema(
  connection: PostgresConnection,
  objects: SchemaObjects,
  mayCreateSchema: boolean,
): Promise<void> {
  if (await isComplete(connection, objects)) return;
  if (mayCreateSchema) await createSchema(connection, objects);
  try {
    await createMissing(connection, objects);
  } catch (error) {
    connection.destroy(error as Error); // it is in a transaction that has failed
    throw error;
  }
}

/** One transaction with round trips of its own. A process that is stopped in the middle holds its lock for 10 s at most. */
async function createMissing(connection: PostgresConnection, objects: SchemaObjects): Promise<void> {
  await connection.query('BEGIN ISOLATION LEVEL READ COMMITTED');
  await connection.query('SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL statement_timeout = 10000');
  await connection.query(`SELECT pg_advisory_xact_lock(${objects.lock})`);
  const { tables, functions } = await missingObjects(connection, objects);
  const statements = [...(tables.length > 0 ? objects.tableStatements : []), ...functions];
  for (const statement of statements) await connection.query(statement); // oxlint-disable-line no-await-in-loop -- in this order
  await connection.query('COMMIT');
}

/** CREATE SCHEMA needs a right that CREATE TABLE does not, so it is tried only where there is none. */
async function createSchema(connection: PostgresConnection, objects: SchemaObjects): Promise<void> {
  const [row] = await connection.query(
    `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = ${quoteText(objects.schemaName)})`,
  );
  if (row?.[0] === 't') return;
  await connection.query(`CREATE SCHEMA IF NOT EXISTS ${objects.schema}`);
}

async function isComplete(connection: PostgresConnection, objects: SchemaObjects): Promise<boolean> {
  const { tables, functions } = await missingObjects(connection, objects);
  if (tables.length > 0 || functions.length > 0) return false;
  await objects.check?.(connection);
  return true;
}

async function missingObjects(
  connection: PostgresConnection,
  objects: SchemaObjects,
): Promise<{ tables: string[]; functions: string[] }> {
  const { tables, functions } = objects;
  const schema = `(SELECT oid FROM pg_namespace WHERE nspname = ${quoteText(objects.schemaName)})`;
  const unquoted = (name: string): string => quoteText(name.slice(objects.schema.length + 2, -1));
  // From the catalogs' rows: to_regclass() may answer from before the lock was acquired.
  const exists = [
    ...tables.map(
      (name) => `EXISTS (SELECT FROM pg_class WHERE relname = ${unquoted(name)} AND relnamespace = ${schema})`,
    ),
    ...functions.map(
      ({ name, version }) =>
        `EXISTS (SELECT FROM pg_proc WHERE proname = ${unquoted(name)} AND pronamespace = ${schema}${isCurrent(version)})`,
    ),
  ];
  const [row = []] = await connection.query(`SELECT ${exists.join(', ')}`);
  const missing = tables.filter((_, i) => row[i] !== 't');
  if (missing.length > 0 && missing.length < tables.length) {
    throw new PostgresError(
      STATE_MISSING,
      new Error(`${missing.join(', ')} is missing: a restore is running or has failed`),
    );
  }
  return {
    tables: missing,
    functions: functions.filter((_, i) => row[tables.length + i] !== 't').map(({ create }) => create),
  };
}

/**
 * The condition that a function need not be replaced: it has this version or a higher one, or this role may not replace it. A role
 * without that right runs the journal with the older function, as with tables that another role has made.
 */
function isCurrent(version: number | undefined): string {
  if (version === undefined) return '';
  const found = "CAST(substring(prosrc FROM '^[[:space:]]*-- version ([0-9]{1,9})') AS integer)";
  const mayReplace = "pg_has_role(proowner, 'USAGE') AND has_schema_privilege(pronamespace, 'CREATE')";
  return ` AND (coalesce(${found}, 1) >= ${version} OR NOT (${mayReplace}))`;
}
