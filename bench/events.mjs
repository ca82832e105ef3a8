// The events that every peer sends: JSON data that contains its own sequence number after a `~`.
// Invariant: the data of event n has the same bytes in every peer.

/** No peer writes it in a header, an id or another field, so a client finds an event by this byte alone. */
export const marker = '~';

/** Returns the data of event `seq`: an object whose JSON is `bytes` long. */
export function payload(seq, bytes) {
  const n = marker + String(seq).padStart(8, '0');
  return { n, text: filler(bytes - JSON.stringify({ n, text: '' }).length) };
}

/** Returns how many bytes after the number are the same in every event. A client may skip them. */
export function skippable(bytes) {
  return Math.max(0, bytes - JSON.stringify({ n: marker + '00000000' }).length);
}

/** Returns an event as a server without a library writes it. */
export function frame(data) {
  return Buffer.from(`data: ${JSON.stringify(data)}\n\n`);
}

/** Returns the first fault in bodies that must be the events 1 to `last`, each once and in order; `undefined` if there is none. */
export function faultIn(bodies, last) {
  for (const [i, body] of bodies.entries()) {
    const at = body.indexOf(marker.charCodeAt(0)) + 1;
    const seq = Number(Buffer.from(body.subarray(at, at + 8)).toString('latin1'));
    if (seq !== i + 1) return `entry ${i + 1} of the log is event ${seq}`;
  }
  return bodies.length === last ? undefined : `${bodies.length} of ${last} events are in the log`;
}

/**
 * Returns an event as an application sends it: about 850 bytes of JSON that repeats its keys but not its values. The scenario
 * `compression` uses it, because the filler of one repeated letter compresses far better than real data.
 */
export function document(seq) {
  const items = [];
  for (let i = 0; i < 6; i++) {
    const r = scramble(seq * 8 + i);
    items.push({
      sku: `A-${r % 10_000}`,
      title: TITLE_WORDS[r % TITLE_WORDS.length] + ' ' + TITLE_WORDS[(r >>> 8) % TITLE_WORDS.length],
      price: (r % 9_000) / 100,
      currency: 'EUR',
      stock: (r >>> 4) % 500,
      updatedAt: new Date(1_750_000_000_000 + (r % 1_000_000)).toISOString(),
    });
  }
  return { n: marker + String(seq).padStart(8, '0'), type: 'stock.changed', items };
}

const TITLE_WORDS =
  'amber basin cedar delta ember fjord grove heath inlet juniper kelp lagoon maple north oasis prairie'.split(' ');

function filler(length) {
  return 'x'.repeat(Math.max(0, length));
}

/** Returns a fixed pseudo-random number for each input, so that every process sends the same bytes. */
function scramble(n) {
  let x = (n + 0x9e3779b9) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}
