/*
 * Reduces a screenshot to a third of its size, with a palette of 256 colours: a page of text needs no more.
 * The input must be as Chromium writes it: PNG, eight bits, RGB or RGBA, not interlaced.
 */
import { deflateSync, inflateSync } from 'node:zlib';

export function smaller(png: Buffer): Buffer {
  const chunks = [...chunksOf(png)];
  const header = chunks[0]!.data;
  const [width, height, channels] = [header.readUInt32BE(0), header.readUInt32BE(4), header[9] === 6 ? 4 : 3];
  const data = inflateSync(Buffer.concat(chunks.filter(({ type }) => type === 'IDAT').map((chunk) => chunk.data)));
  const pixels = colours(data, width * channels, height, channels);
  const palette = most(pixels, 256);
  const index = new Map(palette.map((colour, at) => [colour, at]));
  const rows = Buffer.alloc((width + 1) * height); // each row starts with its filter type: 0, none
  for (const [at, colour] of pixels.entries()) {
    let found = index.get(colour);
    if (found === undefined) index.set(colour, (found = nearest(palette, colour)));
    rows[at + Math.floor(at / width) + 1] = found;
  }
  const indexed = Buffer.from(header);
  indexed[9] = 3;
  return Buffer.concat([
    png.subarray(0, 8),
    chunk('IHDR', indexed),
    chunk('PLTE', Buffer.from(palette.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]))),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function* chunksOf(png: Buffer): Generator<{ type: string; data: Buffer }> {
  for (let at = 8; at < png.length; at += png.readUInt32BE(at) + 12) {
    const type = png.toString('latin1', at + 4, at + 8);
    yield { type, data: png.subarray(at + 8, at + 8 + png.readUInt32BE(at)) };
  }
}

/** Removes the filters, in place. @see https://www.w3.org/TR/png-3/#9Filters */
function colours(data: Buffer, length: number, height: number, channels: number): number[] {
  const pixels: number[] = [];
  for (let row = 0; row < height; row++) {
    const start = row * (length + 1) + 1;
    const filter = data[start - 1];
    for (let at = 0; at < length; at++) {
      const left = at < channels ? 0 : data[start + at - channels]!;
      const up = row === 0 ? 0 : data[start + at - length - 1]!;
      const corner = row === 0 || at < channels ? 0 : data[start + at - length - 1 - channels]!;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter!]!;
      data[start + at] = data[start + at]! + guess;
    }
    for (let at = start; at < start + length; at += channels) pixels.push(data.readUIntBE(at, 3));
  }
  return pixels;
}

function paeth(left: number, up: number, corner: number): number {
  const [a, b, c] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs) as [number, number, number];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

/**
 * Chooses the palette: half by frequency of use, the other half by distance from the colours chosen so far. A rare red thus
 * stays red.
 */
function most(pixels: readonly number[], count: number): number[] {
  const uses = new Map<number, number>();
  for (const colour of pixels) uses.set(colour, (uses.get(colour) ?? 0) + 1);
  const sorted = [...uses].toSorted(([, a], [, b]) => b - a).map(([colour]) => colour);
  const palette = sorted.slice(0, count / 2);
  const left = new Map(
    sorted.slice(count / 2).map((colour) => [colour, distance(colour, palette[nearest(palette, colour)]!)]),
  );
  while (palette.length < count && left.size > 0) {
    const [next] = [...left].reduce((one, other) => (other[1] > one[1] ? other : one));
    palette.push(next);
    left.delete(next);
    for (const [colour, apart] of left) left.set(colour, Math.min(apart, distance(colour, next)));
  }
  return palette;
}

function nearest(palette: readonly number[], colour: number): number {
  let best = 0;
  let least = Infinity;
  for (const [at, other] of palette.entries()) {
    const apart = distance(colour, other);
    if (apart < least) [best, least] = [at, apart];
  }
  return best;
}

function distance(one: number, other: number): number {
  let sum = 0;
  for (const shift of [16, 8, 0]) sum += (((one >> shift) & 255) - ((other >> shift) & 255)) ** 2;
  return sum;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const whole = Buffer.alloc(body.length + 8);
  whole.writeUInt32BE(data.length);
  body.copy(whole, 4);
  whole.writeUInt32BE(crc(body), body.length + 4);
  return whole;
}

function crc(bytes: Buffer): number {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xed_b8_83_20 : sum >>> 1;
  }
  return ~sum >>> 0;
}
