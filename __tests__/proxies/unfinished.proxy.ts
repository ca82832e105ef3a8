/*
 * An answer that did not finish, through each proxy: the client receives what was written, and then a failure.
 */

import { request } from 'node:http';
import { connect as dial } from 'node:http2';
import { sse } from '../../lib/index.ts';
import { clock, eventually, serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';
import { startProxy, type Edits } from './fixtures/proxy.ts';
import type { ProxyName } from './fixtures/recipes.ts';

/** Over which versions of HTTP a proxy passes a failure on to its client. The others end the answer as if it were complete. */
const PROXIES: [name: string, proxy: ProxyName, edits: Edits, http1: boolean, http2: boolean | undefined][] = [
  ['nginx, which uses HTTP/1.0', 'nginx', [], true, true],
  ['nginx with HTTP/1.1', 'nginx', [['proxy_pass', 'proxy_http_version 1.1; proxy_pass']], true, true],
  ['HAProxy 2.6', 'HAProxy', [], true, false],
  ['Varnish', 'Varnish', [], true, undefined],
  ['Varnish without the pipe', 'Varnish', [['return (pipe);', '']], true, undefined],
  ['Caddy 2.6', 'Caddy', [], false, false],
  ['Apache', 'Apache', [], true, true],
];

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const TOKENS = ['one', 'two', 'three'];

async function answersBehind(proxy: ProxyName, edits: Edits) {
  const answers = sse(
    async function* (_conn, req) {
      for (const data of TOKENS) {
        yield { event: 'token', data };
        await pause(30);
      }
      if (req.query.fail !== undefined) throw new Error('of the model');
    },
    { methods: ['POST'], history: false, onError: () => {} },
  );
  later(() => answers.close());
  const { port } = await serve((app) => app.use('/events', answers));
  const started = await startProxy(proxy, port, edits);
  later(() => started.stop());
  return started;
}

/** What a client of HTTP/1.1 reads. (`fetch` of Node 20 ignores a missing last chunk after `Connection: close`, which Varnish sends.) */
function overHttp1(url: string): Promise<{ text: string; failed: boolean }> {
  return new Promise((resolve, reject) => {
    const asking = request(url, { method: 'POST', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', () => {}).on('close', () => resolve({ text, failed: !response.complete }));
    });
    asking.on('error', reject).end('{}');
  });
}

/** The same over HTTP/2. */
async function overHttp2(url: string, path: string): Promise<{ text: string; failed: boolean }> {
  const session = dial(url, { rejectUnauthorized: false, servername: 'localhost' });
  later(() => session.destroy());
  session.on('error', () => {});
  const asking = session.request({ ':path': path, ':method': 'POST' });
  let text = '';
  let over = false;
  asking.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  asking.on('error', () => {}).on('close', () => (over = true));
  asking.end('{}');
  await eventually(() => over, 10_000);
  return { text, failed: asking.rstCode !== 0 || session.destroyed };
}

test.each(PROXIES)(
  '%s: a failure arrives after everything that was written',
  async (_name, proxy, edits, http1, http2) => {
    const { url, secure } = await answersBehind(proxy, edits);
    const start = clock();
    const written = expect.stringMatching(/data: one\n\n[^]*data: two\n\n[^]*data: three\n\n$/) as string;
    expect(await overHttp1(`${url}/events?fail`)).toEqual({ text: written, failed: http1 });
    expect(await overHttp1(`${url}/events`)).toEqual({ text: written, failed: false });
    expect(secure !== undefined).toBe(http2 !== undefined);
    if (secure !== undefined) {
      expect(await overHttp2(secure, '/events?fail')).toEqual({ text: written, failed: http2 });
      expect(await overHttp2(secure, '/events')).toEqual({ text: written, failed: false });
    }
    expect(clock() - start).toBeLessThan(5000);
  },
);
