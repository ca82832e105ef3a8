/*
 * The middleware and the kinds of servers that subjects put in front of the routers. Each package is loaded only where it is used.
 */
const load = async (name) => (await import(name)).default;

/** Each adds middleware to the application, with the settings that its documentation shows. */
export const fronts = {
  compression: async (app) => app.use((await load('compression'))()),
  'compression with a threshold of 0': async (app) => app.use((await load('compression'))({ threshold: 0 })),
  '@polka/compression': async (app) => app.use((await load('@polka/compression'))({ threshold: 0 })),
  'http-compression': async (app) => app.use((await load('http-compression'))({ threshold: 0 })),
  helmet: async (app) => app.use((await load('helmet'))()),
  morgan: async (app) => app.use((await load('morgan'))('combined', { stream: { write: () => {} } })),
  'pino-http': async (app) => app.use((await load('pino-http'))({ enabled: false })),
  'express-winston': async (app) => {
    const [{ logger }, winston] = [await load('express-winston'), await load('winston')];
    app.use(logger({ transports: [new winston.transports.Console({ silent: true })] }));
  },
  'express-session': async (app) =>
    app.use((await load('express-session'))({ secret: 's', resave: false, saveUninitialized: true })),
  'cookie-session': async (app) => app.use((await load('cookie-session'))({ secret: 's' })),
  passport: async (app) => app.use((await load('passport')).initialize()),
  'express-rate-limit': async (app) =>
    app.use((await load('express-rate-limit'))({ limit: 10_000, standardHeaders: 'draft-8', legacyHeaders: false })),
  'express-slow-down': async (app) => app.use((await load('express-slow-down'))({ delayAfter: 10_000 })),
  'response-time': async (app) => app.use((await load('response-time'))()),
  'on-finished': async (app) => {
    const onFinished = await load('on-finished');
    app.use((_req, res, next) => {
      onFinished(res, () => {});
      next();
    });
  },
  hpp: async (app) => app.use((await load('hpp'))()),
  'express.json()': async (app, express) => app.use(express.json(), express.urlencoded({ extended: true })),
  'cookie-parser': async (app) => app.use((await load('cookie-parser'))()),
  'connect-timeout': async (app) => app.use((await load('connect-timeout'))('60s')),
  'express-prom-bundle': async (app) => app.use((await load('express-prom-bundle'))({ includeMethod: true })),
  'express-status-monitor': async (app) => app.use((await load('express-status-monitor'))()),
  'express-http-context': async (app) => app.use((await load('express-http-context')).middleware),
  'cls-rtracer': async (app) => app.use((await load('cls-rtracer')).expressMiddleware()),
  'express-mung': async (app) => app.use((await load('express-mung')).json((body) => body)),
  'express-requests-logger': async (app) =>
    app.use((await load('express-requests-logger'))({ logger: { info() {}, error() {}, warn() {} } })),
  'express-interceptor': async (app) =>
    app.use(
      (await load('express-interceptor'))(() => ({
        isInterceptable: () => false,
        intercept: (body, send) => send(body),
      })),
    ),
};

/** Each makes a server other than `node:http`'s. */
export const servers = {
  https: async (app, certificate) => (await import('node:https')).createServer(certificate, app),
  http2: async (app, certificate) =>
    (await import('node:http2')).createSecureServer(certificate, (req, res) =>
      app(req, res, () => {
        res.statusCode = 404;
        res.end();
      }),
    ),
  'http2 bridge': async (app, certificate) =>
    (await import('node:http2')).createSecureServer({ ...certificate, allowHTTP1: true }, app),
  spdy: async (app, certificate) => (await load('spdy')).createServer(certificate, app),
};

/** Each makes Express work with a server. Its prototypes extend those of HTTP/1, which the responses of HTTP/2 are not. */
export const bridges = {
  'http2 bridge': async (express) => {
    const bridge = await load('http2-express-bridge');
    return () => bridge(express); // an application
  },
};
