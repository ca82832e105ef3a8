// @fastify/sse as its README shows it. It has no broadcast: the application keeps the replies in a set, and the log for a resume.
import { setTimeout as pause } from 'node:timers/promises';
import Fastify from 'fastify';
import fastifyCompress from '@fastify/compress';
import fastifyCors from '@fastify/cors';
import fastifySse from '@fastify/sse';

export const offers = {
  fields: ['event', 'id', 'retry'],
  routes: ['/events', '/items', '/answers', '/forbidden', '/throws', '/breaks', '/dual'],
  ownIds: true,
  ownLog: true,
  text: true,
  corsPackage: '@fastify/cors',
};

export async function create(setup) {
  const fastify = Fastify({ http2: setup.http2 === true, ...(setup.force ? { forceCloseConnections: true } : {}) });
  await fastify.register(fastifySse, setup.text ? { serializer: String } : {});
  if (setup.compression) await fastify.register(fastifyCompress, { global: true });
  if (setup.origins) await fastify.register(fastifyCors, { origin: setup.origins, credentials: true });
  const replies = new Set();
  const log = setup.stored ?? [];
  let last;

  fastify.get('/events', { sse: 'only' }, async (request, reply) => {
    if (setup.wait) await pause(setup.wait);
    reply.sse.keepAlive();
    reply.sse.sendHeaders();
    if (setup.state) await reply.sse.send({ event: 'state', data: setup.state });
    await reply.sse.replay(async (lastEventId) => {
      const at = log.findIndex(({ id }) => String(id) === lastEventId);
      for (const message of at === -1 ? log : log.slice(at + 1)) await reply.sse.send(message);
    });
    replies.add(reply);
    last = reply;
    reply.sse.onClose(() => replies.delete(reply));
  });
  fastify.get('/items', { sse: 'only' }, async (request, reply) => {
    await reply.sse.send(asMessages(setup.items()));
  });
  fastify.post('/answers', { sse: 'manual' }, async (request, reply) => {
    await pause(50);
    await reply.sse.send({ event: 'token', data: 'a' });
    await pause(50);
    await reply.sse.send({ event: 'token', data: 'b' });
  });
  fastify.get('/forbidden', { sse: 'only' }, async (request, reply) => {
    await pause(20);
    reply.code(403);
    return { error: 'forbidden' };
  });
  fastify.get('/throws', { sse: 'only' }, async () => {
    await pause(20);
    throw new Error('secret');
  });
  fastify.get('/breaks', { sse: 'only' }, async (request, reply) => {
    await reply.sse.send({ data: 'first' });
    await pause(50);
    throw new Error('secret');
  });
  fastify.get('/dual', { sse: 'dual' }, async (request, reply) => {
    if (!reply.sse) return { value: 1 };
    await reply.sse.send({ data: { value: 1 } });
  });
  return {
    listen: async () => {
      await fastify.listen({ port: 0, host: '127.0.0.1' });
      return fastify.server;
    },
    async broadcast(message) {
      if (message.id !== undefined) log.push(message);
      // Each send waits for its client, so the application does not await them together.
      for (const reply of replies) void reply.sse.send(message);
    },
    size: () => replies.size,
    sendToLast: (data) => last.sse.send({ data }),
    close: () => fastify.close(),
  };
}

async function* asMessages(items) {
  for await (const data of items) yield { data };
}
