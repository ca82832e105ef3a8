/*
 * Who stands between us and the server, as far as the answer's headers give it away, and how each is told not to buffer.
 * Knows HTTP's headers.
 * Invariant: nothing is guessed: a hop is named with the header that names it.
 */
import type { IncomingHttpHeaders } from 'node:http';

/** A proxy, a cache or a server that has signed the answer. */
export interface Hop {
  readonly name: string;
  /** The header by which it is known. */
  readonly from: string;
  /** How it is told to let events through. */
  readonly cure: string;
}

/**
 * What is looked for in `Via`, `Server`, `X-Cache` and the like, and what helps: as measured by `npm run test:proxies`, and of
 * Cloudflare, CloudFront and Fastly by their manuals.
 */
const KNOWN = [
  { name: 'nginx', pattern: /nginx|openresty/i, cure: 'send X-Accel-Buffering: no, or set proxy_buffering off' },
  { name: 'Varnish', pattern: /varnish/i, cure: 'switch do_gzip off for text/event-stream, or pipe it' },
  {
    name: 'Apache',
    pattern: /apache/i,
    // Nothing that it does to a stream by HTTP was seen to hold it back: no DEFLATE and no BUFFER.
    cure: 'by mod_proxy_http it holds nothing back, so look behind it; for FastCGI set flushpackets=on',
  },
  { name: 'Caddy', pattern: /caddy/i, cure: 'leave text/event-stream out of encode' }, // flush_interval does not help
  { name: 'HAProxy', pattern: /haproxy/i, cure: 'set option http-no-delay' },
  {
    name: 'Cloudflare',
    pattern: /cloudflare/i,
    cure: 'send Cache-Control: no-transform, and no caching rule for this path',
  },
  { name: 'CloudFront', pattern: /cloudfront/i, cure: 'switch caching and compression off for this path' },
  {
    name: 'Fastly',
    pattern: /fastly|cache-\w+-\w+/i,
    cure: 'stream the miss (beresp.do_stream) and do not cache this path',
  },
] as const;

const SIGNED = ['via', 'server', 'x-cache', 'x-served-by', 'x-varnish', 'cf-ray', 'x-amz-cf-id'] as const;
/** Headers that only one of them sends, whatever their value. */
const OWN: Readonly<Record<string, string>> = {
  'x-varnish': 'varnish',
  'cf-ray': 'cloudflare',
  'x-amz-cf-id': 'cloudfront',
};

/** The hops, each once; `Via` first, since it lists them in the order of the way. */
export function hopsOf(headers: IncomingHttpHeaders): Hop[] {
  const hops = new Map<string, Hop>();
  for (const header of SIGNED) {
    const value = headers[header];
    if (value === undefined) continue;
    const from = `${header}: ${String(value)}`;
    const hint = OWN[header] ?? String(value);
    const known = KNOWN.filter(({ pattern }) => pattern.test(hint));
    for (const { name, cure } of known) if (!hops.has(name)) hops.set(name, { name, from, cure });
    if (known.length === 0 && header === 'via')
      hops.set(from, { name: 'a proxy', from, cure: 'see its manual on response buffering' });
  }
  return [...hops.values()];
}
