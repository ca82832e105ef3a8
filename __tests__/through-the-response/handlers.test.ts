// The same tests, with the fast way out closed.
import '../fixtures/slow-way.ts';
import '../handlers.test.ts';
