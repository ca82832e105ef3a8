/*
 * Functions of the application that return a promise where none is allowed: the request fails with a clear error, and the rejection of
 * the promise ends no process.
 */
import type { NextFunction, Request, Response, Router } from 'express';
import { sse } from '../../lib/index.ts';
import { runs } from '../../lib/runs/index.ts';
import { serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';

const rejected = () => Promise.reject(new Error('of the application')) as never;
const errors: string[] = [];
const onError = (error: unknown) => void errors.push((error as Error).message);

const router = (handler: Parameters<typeof sse>[0], options: object) => {
  const events = sse(handler as never, { onError, ...options });
  later(() => events.close());
  return events;
};
const runsRouter = (produce: () => unknown[], options: object) => {
  const answers = runs(produce, { onError, ...options });
  later(() => answers.close());
  return answers;
};

test.each<[string, () => Router, 'GET' | 'POST', number, RegExp]>([
  [
    'limits.clientKey',
    () => router(() => {}, { limits: { perClient: 1, clientKey: rejected } }),
    'GET',
    500,
    /clientKey/,
  ],
  ['maxAge', () => router(() => {}, { maxAge: rejected }), 'GET', 500, /maxAge/],
  ['headers', () => router(() => {}, { headers: rejected }), 'GET', 500, /^headers must be/],
  [
    'serialize',
    () => router((conn) => void conn.push({ data: 1 }), { serialize: rejected }),
    'GET',
    500,
    /serialized data/,
  ],
  [
    'the data of a message',
    () => router((conn) => void conn.push({ data: rejected() }), {}),
    'GET',
    500,
    /Await it first/,
  ],
  ['a message', () => router((conn) => void conn.push(rejected()), {}), 'GET', 500, /^A message must be/],
  ['the id of a run', () => runsRouter(() => [1], { id: rejected }), 'POST', 400, /run id/],
  ['a chunk', () => runsRouter(() => [rejected()], {}), 'POST', 200, /^A chunk must be/],
  [
    'the event of a chunk',
    () => runsRouter(() => [1], { wire: { message: rejected, control: true } }),
    'POST',
    200,
    /^A message must be/,
  ],
  [
    'the end of a run',
    () => runsRouter(() => [1], { wire: { message: String, end: rejected, control: true } }),
    'POST',
    200,
    /^A message must be/,
  ],
])('a promise as %s', async (_what, make, method, status, text) => {
  errors.length = 0;
  const unhandled: unknown[] = [];
  const listener = (error: unknown) => void unhandled.push(error);
  process.on('unhandledRejection', listener);
  later(() => void process.off('unhandledRejection', listener));
  const { url } = await serve((app) => {
    app.use(make());
    app.use(
      (error: Error, _req: Request, res: Response, _next: NextFunction) => void res.status(500).send(error.message),
    );
  });
  const response = await fetch(url, { method });
  expect(response.status).toBe(status);
  const body = await response.text().catch(() => '');
  await new Promise(setImmediate);
  expect(status === 200 ? errors.join('\n') : body).toMatch(text);
  expect(unhandled).toEqual([]);
});
