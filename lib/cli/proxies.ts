/*
 * Finds the proxies between client and server from the headers of a response, and how to stop each from buffering.
 * Invariant: nothing is guessed: each proxy is reported with the header that names it.
 */
import type { IncomingHttpHeaders } from 'node:http';

/** A proxy, a cache or a server that names itself in the response. */
export interface DetectedProxy {
  readonly name: string;
  /** The header that names it. */
  readonly header: string;
  /** How to make it pass events through. */
  readonly cure: string;
}

/**
 * The patterns to look for in `Via`, `Server`, `X-Cache` and the like, and the cures: as measured by `npm run test:proxies`; for
 * Cloudflare, CloudFront and Fastly from their manuals.
 */
const KNOWN_PROXIES = [
  { name: 'nginx', pattern: /nginx|openresty/i, cure: 'send X-Accel-Buffering: no, or set proxy_buffering off' },
  { name: 'Varnish', pattern: /varnish/i, cure: 'switch do_gzip off for text/event-stream, or pipe it' },
  {
    name: 'Apache',
    pattern: /apache/i,
    // Over HTTP nothing was seen to hold a stream back in Apache: neither DEFLATE nor BUFFER.
    cure: 'mod_proxy_http buffers nothing, so check what is behind it; for FastCGI set flushpackets=on',
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

/** `Via` comes first, because it lists the proxies in the order of the path. */
const NAMING_HEADERS = ['via', 'server', 'x-cache', 'x-served-by', 'x-varnish', 'cf-ray', 'x-amz-cf-id'] as const;
/** Headers that only one proxy sends, so their value does not matter. */
const UNIQUE_HEADERS: Readonly<Record<string, string>> = {
  'x-varnish': 'varnish',
  'cf-ray': 'cloudflare',
  'x-amz-cf-id': 'cloudfront',
};

/** Returns the proxies, each once, in the order of {@link NAMING_HEADERS}. */
export function detectProxies(headers: IncomingHttpHeaders): DetectedProxy[] {
  const proxies = new Map<string, DetectedProxy>();
  for (const name of NAMING_HEADERS) {
    const value = headers[name];
    if (value === undefined) continue;
    const header = `${name}: ${String(value)}`;
    const hint = UNIQUE_HEADERS[name] ?? String(value);
    const matches = KNOWN_PROXIES.filter(({ pattern }) => pattern.test(hint));
    for (const match of matches) {
      if (!proxies.has(match.name)) proxies.set(match.name, { name: match.name, header, cure: match.cure });
    }
    if (matches.length === 0 && name === 'via')
      proxies.set(header, { name: 'a proxy', header, cure: 'see its manual on response buffering' });
  }
  return [...proxies.values()];
}
