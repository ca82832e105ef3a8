// The same tests, with the fast way out closed.
/* oxlint-disable import/no-unassigned-import -- what is imported runs */
import '../fixtures/slow-way.ts';
import '../connection/unfinished-answers.test.ts';
