/*
 * Errors of LMDB and of the file system, with their cure.
 * Invariant: every failure of the engine becomes an SseError with the original error as its cause.
 */
import { SseError } from '../../errors.ts';

/** The function that an application opens a database with; it is part of every message. */
export type DatabaseKind = 'lmdbJournal' | 'lmdbRuns';

/** The files of each kind of database: the data, and LMDB's lock file. */
export const DATABASE_FILES: Readonly<Record<DatabaseKind, readonly [data: string, lock: string]>> = {
  lmdbJournal: ['data.mdb', 'lock.mdb'],
  lmdbRuns: ['runs.mdb', 'runs.mdb-lock'],
};

interface Explanation {
  readonly codes: readonly (number | string)[];
  readonly problem: string;
  readonly cure: string;
}

const EXPLANATIONS: readonly Explanation[] = [
  {
    codes: [28, 27, 122, -30792, 'ENOSPC', 'EDQUOT', 'EFBIG'],
    problem: 'the disk or the quota is full',
    cure: 'Free some space; no acknowledged entry is lost.',
  },
  {
    codes: [5, 'EIO'],
    problem: 'the disk did not write: it is full or failing',
    cure: 'Check the disk; no acknowledged entry is lost.',
  },
  {
    codes: [13, 1, 30, 'EACCES', 'EPERM', 'EROFS'],
    problem: 'the directory is not writable',
    cure: 'Give this user write permission.',
  },
  {
    codes: [20, 17, 'ENOTDIR', 'EEXIST'],
    problem: 'the path must be a directory, or must not exist yet',
    cure: 'Pass another path.',
  },
  {
    codes: [-30793, -30796, -30797, -30794],
    problem: 'the file is damaged or was written by another version of lmdb',
    cure: 'Move the directory away to start a new log.',
  },
  { codes: [-30790], problem: 'too many processes read this log', cure: 'Run fewer processes on one log.' },
  { codes: [11, 35, 'EAGAIN'], problem: 'another program holds the lock', cure: 'Stop that program.' },
];

/** Creates an `ERR_SSE_JOURNAL` that names the path, the problem and the cure. */
export function journalError(path: string, error: unknown, kind: DatabaseKind): SseError {
  if (error instanceof SseError) return error;
  const { code, message } = error as { code?: number | string; message?: string };
  const known = EXPLANATIONS.find(({ codes }) => code !== undefined && codes.includes(code));
  const { problem, cure } = known ?? { problem: message, cure: '' };
  return new SseError(
    'ERR_SSE_JOURNAL',
    `${kind}(${JSON.stringify(path)}): ${problem} (${code ?? 'no code'}). ${cure}`.trimEnd(),
    { cause: error },
  );
}

/** Creates the error for a file that exists and is not a valid log of this package. */
export function damagedFile(path: string, problem: string, kind: DatabaseKind): SseError {
  return new SseError(
    'ERR_SSE_JOURNAL',
    `${kind}(${JSON.stringify(path)}): the file is damaged: ${problem}. Move the directory away to start a new log.`,
  );
}

/** Creates the error for a directory that another kind of database uses. */
export function foreignDirectory(path: string, kind: DatabaseKind, owner: DatabaseKind): SseError {
  return new SseError(
    'ERR_SSE_JOURNAL',
    `${kind}: path must be a directory that nothing else uses; received ${JSON.stringify(path)}, the directory of ${owner}(). ` +
      'Pass another path.',
  );
}
