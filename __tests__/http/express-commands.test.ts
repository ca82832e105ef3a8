/*
 * What functions of the application throw, although Express takes it for a command or for nothing: it is an error.
 */
import type { NextFunction, Request, Response, Router } from 'express';
import { sse } from '../../lib/index.ts';
import { runs } from '../../lib/runs/index.ts';
import { EXPRESSES, later, listening } from '../fixtures/support.ts';
import { ask } from '../fixtures/http.ts';

const thrower = (value: unknown) => () => {
  throw value;
};

function router(handler: unknown, options: object = {}): Router {
  const events = sse(handler as never, options);
  later(() => events.close());
  return events;
}

function answers(options: object): Router {
  const chat = runs(() => ['chunk'], options);
  later(() => chat.close());
  return chat;
}

describe.each(EXPRESSES)('%s', (_, make) => {
  describe.each<[unknown, string]>([
    ['route', 'the string "route"'],
    ['router', 'the string "router"'],
    [undefined, 'undefined'],
    ['', 'the string ""'],
  ])('%j is an error', (value, described) => {
    test.each<[string, () => Router, ('GET' | 'POST')?]>([
      ['the handler throws', () => router(thrower(value))],
      ['the handler rejects with', () => router(() => Promise.reject(value))],
      [
        'a generator of the handler throws',
        () =>
          router(function* () {
            yield* [];
            throw value;
          }),
      ],
      ['headers() throws', () => router(() => {}, { headers: thrower(value) })],
      ['limits.clientKey() throws', () => router(() => {}, { limits: { perClient: 1, clientKey: thrower(value) } })],
      ['maxAge() throws', () => router(() => {}, { maxAge: thrower(value) })],
      ['cors.origin() throws', () => router(() => {}, { cors: { origin: thrower(value) } })],
      ['the id of a run throws', () => answers({ id: thrower(value) }), 'POST'],
      ['allow() of runs rejects with', () => answers({ allow: () => Promise.reject(value) }), 'POST'],
    ])('that %s', async (_case, mounted, method = 'GET') => {
      const passed: Error[] = [];
      const app = make();
      app.use('/events', mounted());
      app.use((_req: Request, res: Response) => void res.send('the next one'));
      // oxlint-disable-next-line max-params -- Express counts them
      app.use((error: Error, _req: Request, res: Response, _next: NextFunction) => {
        passed.push(error);
        res.status(500).end();
      });
      const { url } = await listening(app);
      expect((await ask(url, { method, headers: { origin: 'https://app.example' } })).status).toBe(500);
      expect(passed).toHaveLength(1);
      expect(passed[0]).toBeInstanceOf(TypeError);
      expect(passed[0]!.message).toContain(`; received ${described}. Throw an Error.`);
    });
  });
});
