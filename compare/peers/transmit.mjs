// @boringnode/transmit as the adapter for Fastify in its README. Its client subscribes with a POST; here the route subscribes at once.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import Fastify from 'fastify';
import fastifyCompress from '@fastify/compress';
import fastifyCors from '@fastify/cors';
import { Transmit } from '@boringnode/transmit';

export const offers = {
  fields: [],
  routes: ['/events', '/forbidden', '/throws'],
  channels: 'several',
  text: false,
  corsPackage: '@fastify/cors',
  /** Its messages are `{ channel, payload }`. */
  unwrap: (data) => (data !== null && typeof data === 'object' && 'payload' in data ? data.payload : data),
};

export async function create(setup) {
  let transport = null;
  if (setup.redis) {
    const { redis } = await import('@boringnode/transmit/transports');
    const { hostname: host, port } = new URL(setup.redis);
    transport = redis({ host, port: Number(port) })();
  }
  const transmit = new Transmit({ pingInterval: false, transport: null }, transport);
  const fastify = Fastify({ http2: setup.http2 === true });
  if (setup.compression) await fastify.register(fastifyCompress, { global: true });
  if (setup.origins) await fastify.register(fastifyCors, { origin: setup.origins, credentials: true });

  const open = async (request, reply) => {
    if (setup.wait) await pause(setup.wait);
    const uid = randomUUID();
    const context = { request, reply };
    transmit.createStream({
      uid,
      context,
      request: request.raw,
      response: reply.raw,
      injectResponseHeaders: reply.getHeaders(),
    });
    // The README sends the stream as the reply; createStream() of 0.4 pipes it to the response itself.
    reply.hijack();
    for (const channel of ['all', ...[request.query.channel ?? []].flat()]) {
      await transmit.subscribe({ uid, channel, context });
    }
  };
  fastify.get('/events', open);
  fastify.get('/forbidden', async (request, reply) => reply.code(403).send());
  fastify.get('/throws', async () => {
    throw new Error('secret');
  });
  return {
    listen: async () => {
      await fastify.listen({ port: 0, host: '127.0.0.1' });
      return fastify.server;
    },
    broadcast({ data, to }) {
      for (const channel of to ?? ['all']) transmit.broadcast(channel, data);
    },
    size: () => transmit.getSubscribersFor('all').length,
    close: () => transmit.shutdown(),
  };
}
