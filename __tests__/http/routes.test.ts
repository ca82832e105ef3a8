/*
 * A function of the application may call the router inside a route. The router then answers as if it were the route's handler.
 * Where it is mounted, a path below it falls through, also after a route that has passed the request on.
 */

import { channel } from 'node:diagnostics_channel';
import {
  Router as Router5,
  type ErrorRequestHandler,
  type Express,
  type NextFunction,
  type Request,
  type RequestHandler,
  type Response,
} from 'express';
import { Router as Router4 } from 'express4';
import { sse, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { EXPRESSES, later } from '../fixtures/support.ts';
import { ask, serve } from '../fixtures/http.ts';

const asyncHandler =
  (handler: RequestHandler): RequestHandler =>
  (...args) =>
    Promise.resolve(handler(...args)).catch(args[2]);

describe.each(EXPRESSES)('%s', (name, make) => {
  const Router = (name === 'Express 4' ? Router4 : Router5) as typeof Router5;
  /** A path that matches every request. */
  const EVERYTHING = name === 'Express 4' ? '*' : '/*splat';

  /** A router whose first event has the room of its route. */
  function rooms(): SseRouter {
    const events = sse((conn, req) => void conn.push(String(req.params.room)));
    later(() => events.close());
    return events;
  }

  async function site(mount: (app: Express, events: SseRouter) => void): Promise<{ url: string; events: SseRouter }> {
    const events = rooms();
    const { url } = await serve((app) => {
      mount(app, events);
      app.use((_req, res) => void res.status(404).send('fell through'));
      app.use(((error, _req, res, _next) => void res.status(500).send(String(error.message))) as ErrorRequestHandler);
    }, make);
    return { url, events };
  }

  describe('a function that calls the router in a route', () => {
    const calls: [name: string, mount: (app: Express, events: SseRouter) => void][] = [
      ['an arrow function', (app, events) => app.get('/rooms/:room', (req, res, next) => events(req, res, next))],
      ['a function for asynchronous handlers', (app, events) => app.get('/rooms/:room', asyncHandler(events))],
      [
        'a function that waits first',
        (app, events) =>
          app.get('/rooms/:room', async (req, res, next) => {
            await new Promise(setImmediate);
            events(req, res, next);
          }),
      ],
      [
        'a choice among routers',
        (app, events) => {
          const routers: Record<string, SseRouter> = { blue: events };
          app.get('/rooms/:room', (req, res, next) => routers[String(req.params.room)]!(req, res, next));
        },
      ],
      [
        'a function with a `next` of its own',
        (app, events) =>
          app.get('/rooms/:room', (req, res, next) => events(req, res, (error?: unknown) => next(error))),
      ],
      [
        'a controller',
        (app, events) => {
          class Controller {
            readonly #events = events;
            stream(req: Request, res: Response, next: NextFunction): unknown {
              return this.#events(req, res, next);
            }
          }
          const controller = new Controller();
          const router = Router();
          router.get('/:room', async (req, res, next) => {
            try {
              await controller.stream(req, res, next);
            } catch (error) {
              next(error);
            }
          });
          app.use('/rooms', router);
        },
      ],
      [
        'after another handler',
        (app, events) =>
          app.get(
            '/rooms/:room',
            (_q, _s, next) => next(),
            (...all) => events(...all),
          ),
      ],
      ['in app.route()', (app, events) => app.route('/rooms/:room').get((req, res, next) => events(req, res, next))],
      ['in app.all()', (app, events) => app.all('/rooms/:room', (req, res, next) => events(req, res, next))],
      [
        'in a route below two routers with parameters',
        (app, events) => {
          const inner = Router({ mergeParams: true }).get('/', (req, res, next) => events(req, res, next));
          const below = Router({ mergeParams: true }).get('/stream', (req, res, next) => events(req, res, next));
          app.use('/rooms/:room', inner, Router({ mergeParams: true }).use('/below', below));
        },
      ],
      [
        'in a mounted app',
        (app, events) =>
          app.use(
            '/rooms',
            make().get('/:room', (req, res, next) => events(req, res, next)),
          ),
      ],
      [
        'although it is also mounted elsewhere, and a route for everything is in front',
        (app, events) => {
          app.all(EVERYTHING, (_req, _res, next) => next());
          app.use('/events', events);
          app.get('/rooms/:room', (req, res, next) => events(req, res, next));
        },
      ],
      [
        'with a router that has further routes',
        (app, events) => {
          events.get('/more', (_req, res) => void res.send('more'));
          app.use('/events', events);
          app.get('/rooms/:room', (req, res, next) => events(req, res, next));
        },
      ],
      [
        'in a route with a pattern',
        (app, events) => app.get(/^\/rooms\/(?<room>\w+)$/, (req, res, next) => events(req, res, next)),
      ],
    ];

    test.each(calls)('%s gets the stream, with the parameters of the route', async (_call, mount) => {
      const { url, events } = await site(mount);
      const stream = await connect(`${url}/rooms/blue?x=1`);
      later(() => stream.close());
      expect([stream.status, (await stream.next()).data]).toEqual([200, 'blue']);
      expect(events.size).toBe(1);
      expect((await ask(`${url}/rooms/blue`, { method: 'HEAD' })).status).toBe(200);
      expect(await ask(`${url}/rooms/blue/other`)).toMatchObject({ status: 404, text: 'fell through' });
    });

    test('answers other methods and preflights as well', async () => {
      const events = sse({ cors: { origin: 'https://app.example' } });
      later(() => events.close());
      const { url } = await serve((app) => app.all('/x', (req, res, next) => events(req, res, next)), make);
      const headers = { origin: 'https://app.example' };
      expect((await ask(`${url}/x`, { method: 'DELETE', headers })).status).toBe(405);
      const preflight = await ask(`${url}/x`, { method: 'OPTIONS', headers });
      expect(preflight.status).toBe(204);
      expect(preflight.headers.get('access-control-allow-origin')).toBe('https://app.example');
    });

    test('without `next`: the error names the cure', async () => {
      const { url } = await site((app, events) => {
        app.get('/rooms/:room', (req, res) => (events as unknown as (...args: unknown[]) => void)(req, res));
        app.get('/', (req, res) => (events as unknown as (...args: unknown[]) => void)(req, res));
      });
      for (const path of ['/rooms/blue', '/']) {
        expect(await ask(url + path)).toMatchObject({
          status: 500,
          text: expect.stringMatching(/next.*events\(req, res, next\)/),
        });
      }
    });

    test('passes the errors of its handler on', async () => {
      const events = sse(() => {
        throw new Error('no database');
      });
      later(() => events.close());
      const { url } = await serve((app) => {
        app.get('/x', (req, res, next) => events(req, res, next));
        app.use(((error, _req, res, _next) => void res.status(503).send(String(error.message))) as ErrorRequestHandler);
      }, make);
      expect(await ask(`${url}/x`)).toMatchObject({ status: 503, text: 'no database' });
    });
  });

  describe('a path below the mount path falls through', () => {
    /** Middleware layers whose `next` is replaced: as instrumentations do with every layer. */
    const instrument = (handler: RequestHandler): RequestHandler =>
      Object.defineProperties(
        ((req, res, next) => handler(req, res, (error?: unknown) => next(error))) as RequestHandler,
        Object.getOwnPropertyDescriptors(handler),
      );

    const mounts: [name: string, mount: (app: Express, events: SseRouter) => unknown, path?: string][] = [
      ['where it is mounted', (app, events) => app.use('/events', events)],
      ['where a function calls it', (app, events) => app.use('/events', (req, res, next) => events(req, res, next))],
      [
        'where a function calls it with a `next` of its own',
        (app, events) => app.use('/events', (req, res, next) => events(req, res, (error?: unknown) => next(error))),
      ],
      ['where an instrumentation replaces `next`', (app, events) => app.use('/events', instrument(events))],
      ['where it is mounted in a router', (app, events) => app.use('/api', Router().use('/events', events)), '/api'],
      [
        'where it is mounted in a router, and an instrumentation replaces `next`',
        (app, events) => app.use('/api', instrument(Router().use('/events', instrument(events)))),
        '/api',
      ],
      ['where it is mounted in an app', (app, events) => app.use('/api', make().use('/events', events)), '/api'],
      [
        'where it is mounted in an app, and an instrumentation replaces `next`',
        (app, events) => app.use('/api', make().use('/events', instrument(events))),
        '/api',
      ],
    ];

    describe.each<[name: string, front: (app: Express) => unknown]>([
      ['with nothing in front', () => {}],
      ['behind a route for everything', (app) => app.all(EVERYTHING, (_req, _res, next) => next())],
      ['behind a route with the same pattern', (app) => app.get(/events/, (_req, _res, next) => next())],
    ])('%s', (_front, front) => {
      test.each(mounts)('%s', async (_mount, mount, prefix = '') => {
        const { url, events } = await site((app, router) => {
          front(app);
          mount(app, router);
        });
        const stream = await connect(`${url}${prefix}/events`);
        later(() => stream.close());
        expect((await stream.next()).data).toBe('undefined');
        expect(await ask(`${url}${prefix}/events/anything`)).toMatchObject({ status: 404, text: 'fell through' });
        expect(events.size).toBe(1);
      });

      test.each<[name: string, wrap: (events: SseRouter) => RequestHandler]>([
        ['where it is mounted at the root', (events) => events],
        ['where it is mounted at the root, and an instrumentation replaces `next`', instrument],
      ])('%s', async (_mount, wrap) => {
        const { url } = await site((app, events) => {
          front(app);
          app.use(wrap(events));
        });
        const stream = await connect(url);
        later(() => stream.close());
        expect((await stream.next()).data).toBe('undefined');
        expect(await ask(`${url}/events`)).toMatchObject({ status: 404, text: 'fell through' });
      });

      test('where a subscriber of Express’ tracing channel makes Express replace `next`', async () => {
        const traced = channel('tracing:express.router.request:start');
        const listener = (): void => {};
        traced.subscribe(listener);
        later(() => traced.unsubscribe(listener));
        const { url } = await site((app, events) => {
          front(app);
          app.use('/events', events);
        });
        expect(await ask(`${url}/events/anything`)).toMatchObject({ status: 404, text: 'fell through' });
      });
    });
  });
});
