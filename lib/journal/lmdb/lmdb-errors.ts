/*
 * What LMDB says when it fails, in words that tell what to do.
 * Knows the errors of this package and LMDB's codes.
 * Invariant: every failure of the engine leaves as an SseError, with what lies beneath as its cause.
 */
import { SseError } from '../../errors.ts';

const CURES: readonly (readonly [codes: readonly (number | string)[], text: string])[] = [
  [
    [28, 27, 122, -30792, 'ENOSPC', 'EDQUOT', 'EFBIG'],
    'the disk or the quota is full; make room, nothing that was acknowledged is lost',
  ],
  [[5, 'EIO'], 'the disk refused to write: it is full or failing; nothing that was acknowledged is lost'],
  [[13, 1, 30, 'EACCES', 'EPERM', 'EROFS'], 'the directory cannot be written to; give this user the right to'],
  [[20, 17, 'ENOTDIR', 'EEXIST'], 'the path must be a directory, or not exist yet'],
  [
    [-30793, -30796, -30797, -30794],
    'the file is damaged or not from this version of lmdb; move the directory away to begin anew',
  ],
  [[-30790], 'too many processes read this log'],
  [[11, 35, 'EAGAIN'], 'another program holds the lock'],
];

/** An `ERR_SSE_JOURNAL` that says where, what and the cure. */
export function failure(path: string, error: unknown): SseError {
  if (error instanceof SseError) return error;
  const { code, message } = error as { code?: number | string; message?: string };
  const cure = CURES.find(([codes]) => code !== undefined && codes.includes(code))?.[1];
  return new SseError(
    'ERR_SSE_JOURNAL',
    `lmdbJournal(${JSON.stringify(path)}): ${cure ?? message} (${code ?? 'no code'})`,
    {
      cause: error,
    },
  );
}

/** The file is there and is not a log of ours. */
export function damaged(path: string, what: string): SseError {
  return new SseError(
    'ERR_SSE_JOURNAL',
    `lmdbJournal(${JSON.stringify(path)}): the file is damaged: ${what}. Move the directory away to begin a new log`,
  );
}
