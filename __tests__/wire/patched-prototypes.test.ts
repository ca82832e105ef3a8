/*
 * Instrumentations replace `write` on the prototypes of node:http, before or after the package is loaded. They receive every byte.
 */

import express from 'express';
import { OutgoingMessage, ServerResponse } from 'node:http';
import { connect } from '../../lib/testing/index.ts';

type Package = typeof import('../../lib/index.ts');

/** Loads the package again, so that it reads the prototypes as they are now. */
function load(): Package {
  let loaded!: Package;
  jest.isolateModules(() => {
    loaded = require('../../lib/index.ts') as Package; // oxlint-disable-line typescript/no-require-imports -- now
  });
  return loaded;
}

/** Replaces `write` of a prototype, and returns what the replacement receives of event streams. */
function patch(prototype: object): { readonly text: () => string; restore(): void } {
  const own = Object.getOwnPropertyDescriptor(prototype, 'write');
  const { write } = prototype as { write: (...args: unknown[]) => boolean };
  const chunks: Buffer[] = [];
  Object.assign(prototype, {
    write(this: ServerResponse, ...args: [string | Buffer, BufferEncoding?]) {
      const isStream =
        this instanceof ServerResponse && String(this.getHeader('content-type')).includes('event-stream');
      if (isStream) chunks.push(typeof args[0] === 'string' ? Buffer.from(args[0], args[1]) : args[0]);
      return write.apply(this, args);
    },
  });
  return {
    text: () => Buffer.concat(chunks).toString(),
    restore: () =>
      void (own ? Object.defineProperty(prototype, 'write', own) : Reflect.deleteProperty(prototype, 'write')),
  };
}

const prototypes: [name: string, prototype: object][] = [
  ['OutgoingMessage', OutgoingMessage.prototype],
  ['ServerResponse', ServerResponse.prototype],
];

/** Opens a stream, sends events, and returns what the client has received. */
async function play({ sse }: Package): Promise<string> {
  const events = sse((conn) => void conn.push('é€💥'));
  const stream = await connect(express().use('/events', events), '/events');
  await stream.next();
  for (let n = 0; n < 10; n++) await events.broadcast({ event: 'n', data: { n, text: 'x'.repeat(100) } });
  await stream.take(10);
  await events.close();
  const body = await stream.body();
  await stream.close();
  return body;
}

describe.each(prototypes)('write() of the prototype of %s', (_name, prototype) => {
  test('that is replaced before the package is loaded receives every byte', async () => {
    const patched = patch(prototype);
    try {
      const body = await play(load());
      expect(body.length).toBeGreaterThan(1300);
      expect(patched.text()).toBe(body);
    } finally {
      patched.restore();
    }
  });

  test('that is replaced after the package is loaded receives every byte', async () => {
    const loaded = load();
    const patched = patch(prototype);
    try {
      const body = await play(loaded);
      expect(body.length).toBeGreaterThan(1300);
      expect(patched.text()).toBe(body);
    } finally {
      patched.restore();
    }
  });
});
