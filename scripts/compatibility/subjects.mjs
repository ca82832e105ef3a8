/*
 * What is tested: runtimes, servers, middleware, instrumentation and clients.
 * Invariant: `known` contains only deviations that other software causes. If one of them no longer occurs, the run fails.
 * `cases` limits the checks, where a deviation makes the others pointless.
 */
import { fronts } from './fronts.mjs';

/** The folder of the packages, the package whose version is shown, and how the server is started. */
const runtime = (name, pack, command, more = {}) => ({
  group: 'runtimes',
  folder: 'runtimes',
  name,
  pack,
  command,
  withJournals: true,
  ...more,
});
const node = (major) => runtime(`Node.js ${major}`, `node-${major}`, [`node_modules/node-${major}/bin/node`]);

const platform = `${process.platform}-${process.arch === 'arm64' ? 'aarch64' : process.arch}`;
const denoPlatform = `${process.platform}-${process.arch}${process.platform === 'linux' ? '-glibc' : ''}`;

export const runtimes = [
  node(20),
  node(22),
  node(24),
  node(26),
  runtime('Bun', `@oven/bun-${platform}`, [`node_modules/@oven/bun-${platform}/bin/bun`]),
  runtime('Deno', `@deno/${denoPlatform}`, [
    `node_modules/@deno/${denoPlatform}/deno`,
    'run',
    '--allow-all',
    '--node-modules-dir=manual',
    '--no-lock',
    '--quiet',
  ]),
];

/** These run on Node.js 24, because some of the packages need it. */
const onNode = (group, name, pack, more = {}) => ({
  group,
  folder: 'packages',
  name,
  pack,
  command: ['node-24'],
  ...more,
});

const frameworks = [
  onNode('servers', 'Express 5', 'express'),
  onNode('servers', 'Express 4', 'express4', { framework: 'express4' }),
  onNode('servers', '`node:https`', 'node-24', { server: 'https' }),
  onNode('servers', '`node:http2`, without an application', 'node-24', { server: 'http2', framework: 'router' }),
  onNode('servers', '`node:http2` with http2-express-bridge, Express 4', 'http2-express-bridge', {
    server: 'http2 bridge',
    framework: 'express4',
  }),
  onNode('servers', 'spdy, Express 4, Node.js 20', 'spdy', {
    server: 'spdy',
    framework: 'express4',
    command: ['node-20'],
    cases: ['opens', 'push', 'methods', 'others'],
    known: { push: 'two `res.write()` in one tick stop every later write of a response, also without this package' },
  }),
  onNode('servers', 'spdy, Node.js 24', 'spdy', {
    server: 'spdy',
    framework: 'express4',
    known: { start: 'spdy does not load: it uses an internal module that Node.js has removed' },
  }),
];

/** Compressors compress only if the client accepts it. `compression` also respects the `no-transform` of the router's own headers. */
const gzip = { requestHeaders: { 'accept-encoding': 'gzip' } };
const more = {
  compression: gzip,
  'compression with a threshold of 0': { ...gzip, headers: { 'Cache-Control': 'no-cache' } },
  '@polka/compression': gzip,
  'http-compression': gzip,
};

const middleware = Object.keys(fronts).map((name) => {
  const pack = name === 'express.json()' ? 'express' : name.split(' with ')[0];
  const label = more[name]?.headers === undefined ? name : 'compression, without `no-transform`';
  return onNode('middleware', label, pack, { front: name, ...more[name] });
});

const instrumentation = [
  onNode('instrumentation', 'OpenTelemetry (http, express)', '@opentelemetry/sdk-node', {
    flags: ['--import', './opentelemetry.mjs'],
    env: { OTEL_BSP_SCHEDULE_DELAY: '100' },
    hasSpans: true,
  }),
  onNode('instrumentation', 'dd-trace', 'dd-trace', {
    flags: ['--import', 'dd-trace/initialize.mjs'],
    env: { DD_TRACE_STARTUP_LOGS: 'false' },
  }),
  onNode('instrumentation', 'Sentry', '@sentry/node', { flags: ['--import', './sentry.mjs'] }),
  onNode('instrumentation', 'Elastic APM', 'elastic-apm-node', {
    flags: ['-r', 'elastic-apm-node/start.js'],
    env: {
      ELASTIC_APM_SERVER_URL: 'http://127.0.0.1:9',
      ELASTIC_APM_LOG_LEVEL: 'off',
      ELASTIC_APM_SERVICE_NAME: 'test',
    },
  }),
  onNode('instrumentation', 'New Relic', 'newrelic', {
    flags: ['-r', 'newrelic'],
    env: {
      NEW_RELIC_LICENSE_KEY: '0'.repeat(40),
      NEW_RELIC_APP_NAME: 'test',
      NEW_RELIC_NO_CONFIG_FILE: 'true',
      NEW_RELIC_LOG_ENABLED: 'false',
      NEW_RELIC_HOST: '127.0.0.1',
    },
  }),
];

export const packages = [...frameworks, ...middleware, ...instrumentation];
