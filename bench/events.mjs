// The events that every peer sends: JSON data that carries its own sequence number behind a `~`.
// May know: nothing. Keeps: the data of event n is the same bytes whoever sends it.

/** Not in any header, id or field that a peer writes, so a client finds an event by this byte alone. */
export const marker = '~';

/** Data for event `seq`: an object whose JSON is `bytes` long. */
export function payload(seq, bytes) {
  const n = marker + String(seq).padStart(8, '0');
  return { n, text: filler(bytes - JSON.stringify({ n, text: '' }).length) };
}

/** How many bytes after the number are the same in every event: a client may skip them unread. */
export function skippable(bytes) {
  return Math.max(0, bytes - JSON.stringify({ n: marker + '00000000' }).length);
}

/** What somebody who needs no library writes. */
export function frame(data) {
  return Buffer.from(`data: ${JSON.stringify(data)}\n\n`);
}

/** What is wrong with bodies that should be events 1 to `last`, each once and in order; `undefined` when nothing is. */
export function faultIn(bodies, last) {
  for (const [i, body] of bodies.entries()) {
    const at = body.indexOf(marker.charCodeAt(0)) + 1;
    const seq = Number(Buffer.from(body.subarray(at, at + 8)).toString('latin1'));
    if (seq !== i + 1) return `entry ${i + 1} of the log is event ${seq}`;
  }
  return bodies.length === last ? undefined : `${bodies.length} of ${last} events are in the log`;
}

/**
 * An event as an application would send it, about 850 bytes of JSON that repeats its keys but not its values:
 * `compression` is measured with it, since a run of one letter would flatter every compressor.
 */
export function document(seq) {
  const items = [];
  for (let i = 0; i < 6; i++) {
    const r = scramble(seq * 8 + i);
    items.push({
      sku: `A-${r % 10_000}`,
      title: words[r % words.length] + ' ' + words[(r >>> 8) % words.length],
      price: (r % 9_000) / 100,
      currency: 'EUR',
      stock: (r >>> 4) % 500,
      updatedAt: new Date(1_750_000_000_000 + (r % 1_000_000)).toISOString(),
    });
  }
  return { n: marker + String(seq).padStart(8, '0'), type: 'stock.changed', items };
}

const words =
  'amber basin cedar delta ember fjord grove heath inlet juniper kelp lagoon maple north oasis prairie'.split(' ');

function filler(length) {
  return 'x'.repeat(Math.max(0, length));
}

/** A fixed pseudo-random number for each input: the peers must get equal bytes in every process. */
function scramble(n) {
  let x = (n + 0x9e3779b9) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}
