/*
 * A router of runs that a route of Express calls, as its handler or from a function such as the method of a Nest controller. The path of
 * the route shows which request it is. If it does not, the error has the cure: a 404 or 405 would hide the mistake.
 */
import express, {
  type ErrorRequestHandler,
  type Express,
  type NextFunction,
  type Request,
  type Response,
} from 'express';
import { runs, type RunsRouter } from '../../lib/runs/index.ts';
import { ask, eventually, serve } from '../fixtures/http.ts';
import { EXPRESSES, later } from '../fixtures/support.ts';

type Chat = RunsRouter<string>;
type Mount = (app: Express, chat: Chat) => void;

const ORIGIN = 'https://a.example';
const CURE = "Mount the router: app.use('/chat', chat). Or use app.post('/chat', chat)";

describe.each(EXPRESSES)('%s', (name, make) => {
  const isExpress4 = name === 'Express 4';

  async function site(mount: Mount): Promise<{
    readonly chat: Chat;
    readonly request: (method: string, path: string, headers?: Record<string, string>) => ReturnType<typeof ask>;
  }> {
    const chat = runs(
      async function* ({ signal }, req) {
        yield 'one';
        if (req.get('x-hold')) await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
      { id: (req) => req.get('x-run') ?? 'r', cors: { origin: ORIGIN } },
    );
    later(() => chat.close());
    const { url } = await serve((app) => {
      mount(app, chat);
      app.use((_req, res) => void res.status(404).send('fell through'));
      app.use(((error, _req, res, _next) => void res.status(500).send(String(error.message))) as ErrorRequestHandler);
    }, make);
    return { chat, request: (method, path, headers) => ask(`${url}${path}`, { method, headers }) };
  }

  const called =
    (chat: Chat) =>
    (req: Request, res: Response, next: NextFunction): void =>
      void chat(req, res, next);

  const WAYS: [what: string, mount: Mount][] = [
    [
      'handlers of routes',
      (app, chat) => {
        app.post('/chat', chat);
        app.get('/chat/:id', chat);
        app.delete('/chat/:id', chat);
        app.get('/chat/:id/stream', chat);
        app.get('/chat/:id/status', chat);
        app.post('/chat/:id/stop', chat);
      },
    ],
    [
      'functions in routes',
      (app, chat) => {
        app.post('/chat', called(chat));
        app.route('/chat/:id').get(called(chat)).delete(called(chat));
        for (const action of ['stream', 'status', 'stop']) app.all(`/chat/:id/${action}`, called(chat));
      },
    ],
    [
      'a list of paths',
      (app, chat) => {
        app.all(['/chat', '/chat/:id', '/chat/:id/stream', '/chat/:id/status', '/chat/:id/stop'], called(chat));
      },
    ],
    ['a wildcard', (app, chat) => void app.all(isExpress4 ? ['/chat', '/chat/*'] : '/chat{/*rest}', called(chat))],
    [
      'routes of a router below a parameter',
      (app, chat) => {
        const api = make === express ? express.Router({ mergeParams: true }) : (make as typeof express).Router();
        api.post('/', called(chat));
        api.route('/:id').get(called(chat)).delete(chat);
        api.get('/:id/stream', chat);
        api.get('/:id/status', chat);
        api.post('/:id/stop', chat);
        app.use('/:tenant', api);
      },
    ],
    [
      'functions that set the URL',
      (app, chat) => {
        const at =
          (path: (req: Request) => string) =>
          (req: Request, res: Response, next: NextFunction): void => {
            req.url = path(req);
            chat(req, res, next);
          };
        app.post(
          '/chat',
          at(() => '/'),
        );
        app.all(
          '/chat/:chat',
          at(({ params }) => `/${encodeURIComponent(String(params['chat']))}`),
        );
        app.all(
          '/chat/:chat/:what',
          at(({ params }) => `/${encodeURIComponent(String(params['chat']))}/${String(params['what'])}`),
        );
      },
    ],
  ];

  describe.each(WAYS)('%s', (_what, mount) => {
    test('start, read, stop and show a run', async () => {
      const { request, chat } = await site(mount);
      const run = { 'x-run': 'a/b c' };
      const started = await request('POST', '/chat', run);
      expect([started.status, started.headers.get('location')]).toEqual([200, './chat/a%2Fb%20c']);
      expect(started.text).toContain('data: one\n');
      for (const path of [
        '/chat/a%2Fb%20c',
        '/chat/a%2Fb%20c/',
        '/chat/a%2Fb%20c/stream',
        '/Chat/a%2Fb%20c/stream?x=1',
      ]) {
        const { status, text } = await request('GET', path);
        expect([path, status, text]).toEqual([path, 200, expect.stringContaining('data: one\n')]);
      }
      expect((await request('GET', '/chat/unknown')).status).toBe(204);
      const status = await request('GET', '/chat/a%2Fb%20c/status');
      expect(JSON.parse(status.text)).toMatchObject({ id: 'a/b c', status: 'done' });
      for (const [method, path] of [
        ['DELETE', '/chat/s'],
        ['POST', '/chat/s/stop'],
      ] as const) {
        const answer = request('POST', '/chat', { 'x-run': 's', 'x-hold': '1' });
        await eventually(() => chat.stats().runs.running === 1);
        expect((await request(method, path)).status).toBe(202);
        expect((await answer).text).toContain('data: stopped\n');
      }
    });
  });

  test('a route of all methods answers 405 as a mounted router does', async () => {
    const { request } = await site((app, chat) => {
      app.all('/chat', chat);
      app.route('/chat/:id').all(called(chat));
    });
    const start = await request('GET', '/chat');
    expect([start.status, start.headers.get('allow')]).toEqual([405, 'POST, OPTIONS']);
    const read = await request('POST', '/chat/r');
    expect([read.status, read.headers.get('allow')]).toEqual([405, 'GET, HEAD, DELETE, OPTIONS']);
  });

  test.each<[what: string, method: string, path: string, mount: Mount]>([
    ['a GET without an id', 'GET', '/chat', (app, chat) => app.get('/chat', chat)],
    ['a HEAD without an id', 'HEAD', '/chat', (app, chat) => app.get('/chat', chat)],
    ['a POST with an id', 'POST', '/chat/r', (app, chat) => app.post('/chat/:id', chat)],
    ['an id with another name', 'GET', '/chat/r', (app, chat) => app.get('/chat/:chat', called(chat))],
    [
      'an id with another name, in a route of all methods',
      'GET',
      '/chat/r',
      (app, chat) => app.all('/chat/:chat', chat),
    ],
    ['a stop with another name', 'POST', '/chat/r/stop', (app, chat) => app.post('/chat/:chat/stop', called(chat))],
    ['a stream with another name', 'GET', '/chat/r/stream', (app, chat) => app.get('/chat/:chat/stream', chat)],
    ['a pattern', 'GET', '/chat/r', (app, chat) => app.get(/^\/chat\/(.*)$/, called(chat))],
    [
      'an optional id',
      'GET',
      '/chat/r',
      (app, chat) => app.get(isExpress4 ? '/chat/:id?' : '/chat{/:id}', called(chat)),
    ],
  ])('%s is an error with the cure, and starts nothing', async (_what, method, path, mount) => {
    const { request, chat } = await site(mount);
    const { status, text } = await request(method, path);
    expect(status).toBe(500);
    if (method !== 'HEAD') expect(text).toContain(CURE);
    expect(chat.stats().runs).toMatchObject({ running: 0, chunks: 0 });
  });

  test('a POST with another parameter starts a run', async () => {
    const { request } = await site((app, chat) => app.post('/chat/:room', chat));
    expect((await request('POST', '/chat/stream')).text).toContain('data: one\n');
  });

  test('a path below the mount path falls through, also after a route has passed the request on', async () => {
    const { request } = await site((app, chat) => {
      app.post('/chat', (_req, _res, next) => next());
      app.get('/chat/:id/other', (_req, _res, next) => next());
      app.get('/chat/:id', chat);
      app.use('/chat', chat);
    });
    expect((await request('POST', '/chat')).text).toContain('data: one\n');
    expect((await request('GET', '/chat/r/other')).text).toBe('fell through');
    expect((await request('GET', '/chat/r/status')).status).toBe(200);
    expect((await request('PUT', '/chat/r')).status).toBe(405);
  });

  test('a router that a route has called serves the URL that a later middleware sets', async () => {
    const { request } = await site((app, chat) => {
      app.post('/chat', chat);
      app.get(isExpress4 ? '/other/*' : '/other/*rest', called(chat)); // it passes on what is no request to a router of runs
      app.use((req, _res, next) => {
        req.url = req.url.replace('/other/r/now', '/chat/r/status');
        next();
      });
      app.use('/chat', chat);
    });
    await request('POST', '/chat');
    expect((await request('GET', '/other/r/status')).status).toBe(200);
    expect((await request('GET', '/other/r/now')).text).toContain('"status":"done"');
  });

  test('chat.cors in front answers the preflights of routes', async () => {
    const { request } = await site((app, chat) => {
      app.use('/chat', chat.cors);
      app.post('/chat', chat);
      app.route('/chat/:id').get(chat).delete(chat);
    });
    const headers = { origin: ORIGIN, 'access-control-request-method': 'DELETE' };
    const preflight = await request('OPTIONS', '/chat/r', headers);
    expect([preflight.status, preflight.headers.get('access-control-allow-origin')]).toEqual([204, ORIGIN]);
    const started = await request('POST', '/chat', { origin: ORIGIN });
    expect(started.headers.get('access-control-allow-origin')).toBe(ORIGIN);
  });

  test('a call without next throws, with the cure', async () => {
    const { request } = await site((app, chat) => app.post('/chat', (req, res) => (chat as any)(req, res)));
    expect((await request('POST', '/chat')).text).toContain('chat(req, res, next)');
  });
});
