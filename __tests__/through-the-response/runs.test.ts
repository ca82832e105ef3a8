// The same tests without the fast path to the socket: every write goes through the response.
/* oxlint-disable import/no-unassigned-import -- the imported modules run */
import '../fixtures/no-fast-path.ts';
import '../runs/run-log.test.ts';
