// Nest on Express, with `@Sse()` routes that return observables. The decorators are called as TypeScript compiles them.
import { setTimeout as pause } from 'node:timers/promises';
import { Controller, ForbiddenException, Module, Query, RequestMethod, Sse } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import compression from 'compression';
import { concat, defer, filter, finalize, from, map, merge, of, startWith, Subject } from 'rxjs';

export const offers = {
  fields: ['event', 'id', 'retry'],
  routes: ['/events', '/items', '/answers', '/forbidden', '/throws', '/breaks'],
  channels: 'several',
  ownIds: true,
  text: true,
  corsPackage: 'enableCors()',
};

export async function create(setup) {
  const all = new Subject();
  const channels = new Map();
  const channel = (name) => channels.get(name) ?? channels.set(name, new Subject()).get(name);
  let size = 0;
  const counted = (source) =>
    defer(() => {
      size++;
      return source.pipe(finalize(() => size--));
    });

  class Feed {
    async events(query) {
      if (setup.wait) await pause(setup.wait);
      const names = [query.channel ?? []].flat();
      let feed = merge(all, ...names.map(channel));
      if (query.likes) feed = feed.pipe(filter((message) => [undefined, query.likes].includes(message.liked)));
      if (setup.state) feed = feed.pipe(startWith({ type: 'state', data: setup.state }));
      return counted(feed);
    }
    items() {
      return from(setup.items()).pipe(map((data) => ({ data })));
    }
    async answers() {
      await pause(50);
      return concat(
        of({ type: 'token', data: 'a' }),
        defer(() => pause(50).then(() => ({ type: 'token', data: 'b' }))),
      );
    }
    async forbidden() {
      await pause(20);
      throw new ForbiddenException();
    }
    async throws() {
      await pause(20);
      throw new Error('secret');
    }
    breaks() {
      return concat(
        of({ data: 'first' }),
        defer(() =>
          pause(50).then(() => {
            throw new Error('secret');
          }),
        ),
      );
    }
  }
  const route = (name, options) => {
    Sse(name, options)(Feed.prototype, name, Object.getOwnPropertyDescriptor(Feed.prototype, name));
  };
  for (const name of ['events', 'items', 'forbidden', 'throws', 'breaks']) route(name);
  route('answers', { method: RequestMethod.POST });
  Query()(Feed.prototype, 'events', 0);
  Controller()(Feed);
  class App {
    name = 'comparison';
  }
  Module({ controllers: [Feed] })(App);

  const app = await NestFactory.create(App, { logger: false, forceCloseConnections: setup.force === true });
  if (setup.compression) app.use(compression());
  if (setup.origins) app.enableCors({ origin: setup.origins, credentials: true });
  return {
    listen: async () => {
      await app.listen(0, '127.0.0.1');
      return app.getHttpServer();
    },
    broadcast({ event, data, id, retry, to, filter: liked }) {
      const message = { type: event, data, id, retry, liked };
      for (const one of to ? to.map(channel) : [all]) one.next(message);
    },
    size: () => size,
    close: () => app.close(),
  };
}
