/*
 * How often an error of an engine is reported that several functions return during one outage.
 */
import { SseError } from '../../lib/errors.ts';
import { OutageReports } from '../../lib/diagnostics/outage-reports.ts';

function recorded(): { outage: OutageReports; reported: string[] } {
  const reported: string[] = [];
  return { outage: new OutageReports((error) => void reported.push(String(error))), reported };
}

function wrapped(message: string, cause: Error): SseError {
  return new SseError('ERR_SSE_JOURNAL', message, { cause });
}

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

test('a cause is reported once, whatever wraps it', () => {
  const { outage, reported } = recorded();
  const cause = new Error('no password');
  for (const error of [wrapped('first', cause), wrapped('second', wrapped('third', cause)), cause]) outage.add(error);
  expect(reported).toEqual(['SseError: first']);
  outage.add(wrapped('first', new Error('another cause')));
  expect(reported).toHaveLength(2);
});

test('errors of an engine with one code are one cause, except the code of Redis for errors without one', () => {
  const { outage, reported } = recorded();
  for (const [code, message] of [
    ['OOM', 'a'],
    ['OOM', 'b'],
    ['ERR', 'c'],
    ['ERR', 'd'],
  ] as const) {
    outage.add(wrapped(message, Object.assign(new Error(message), { code })));
  }
  expect(reported).toEqual(['SseError: a', 'SseError: c', 'SseError: d']);
});

test('a cause is reported again after the outage, and if it was absent for more than a minute', () => {
  const { outage, reported } = recorded();
  const error = new Error('full');
  for (let n = 0; n < 10; n++) {
    outage.add(error);
    jest.advanceTimersByTime(50_000);
  }
  expect(reported).toHaveLength(1);
  jest.advanceTimersByTime(20_000);
  outage.add(error);
  expect(reported).toHaveLength(2);
  outage.clear();
  outage.add(error);
  expect(reported).toHaveLength(3);
});

test('the number of causes in memory is bounded, and values that are no errors are reported', () => {
  const { outage, reported } = recorded();
  for (const value of [undefined, null, -7, 'text', { code: 'X' }]) outage.add(value);
  for (let n = 0; n < 200; n++) outage.add(new Error(`${n}`));
  expect(reported).toHaveLength(205);
  outage.add(new Error('199'));
  expect(reported).toHaveLength(205);
  outage.add(new Error('0')); // it has been replaced
  expect(reported).toHaveLength(206);
});

test('an error that is its own cause ends the search', () => {
  const { outage, reported } = recorded();
  const error = new Error('circle');
  error.cause = error;
  outage.add(error);
  outage.add(error);
  expect(reported).toEqual(['Error: circle']);
});
