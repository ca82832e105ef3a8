/*
 * Subscriptions of GraphQL with graphql-sse, beside a stream of this package. Both receive what any process broadcasts.
 *
 *   npx tsx examples/graphql-sse.ts
 *   curl -N http://localhost:3000/events
 *   curl -N -H 'Accept: text/event-stream' -H 'Content-Type: application/json' \
 *     -d '{"query":"subscription { orders { id item } }"}' http://localhost:3000/graphql
 *   curl -H 'Content-Type: application/json' -d '{"item":"tea"}' http://localhost:3000/orders
 */
import { running } from './running.ts';
// #region docs
import express from 'express';
import { GraphQLID, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql';
import { createHandler } from 'graphql-sse/lib/use/express';
import { type FollowedEvent, sse } from '../lib/index.ts';

const events = sse((conn) => conn.join('orders'));

/** Follows the orders. Its `return()` ends the iteration at once; that of a generator would wait for the next order. */
function follow(after?: string) {
  const stop = new AbortController();
  const orders = events.follow({ to: 'orders', after, signal: stop.signal });
  const end = orders.return!.bind(orders);
  const endNow = async () => {
    stop.abort();
    const result = await end();
    console.log('a subscription has ended');
    return result;
  };
  return Object.assign(orders, { return: endNow });
}

const Order = new GraphQLObjectType({
  name: 'Order',
  fields: { id: { type: GraphQLID }, item: { type: GraphQLString }, reset: { type: GraphQLString } },
});
const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: 'Query',
    fields: { position: { type: GraphQLID, resolve: () => events.position } },
  }),
  subscription: new GraphQLObjectType({
    name: 'Subscription',
    fields: {
      orders: {
        type: Order,
        args: { after: { type: GraphQLID } },
        subscribe: (_root, { after }) => follow(after ?? undefined),
        resolve: (event: FollowedEvent) =>
          event.type === 'reset' ? { id: event.id, reset: event.reason } : { id: event.id, ...JSON.parse(event.data) },
      },
    },
  }),
});

const app = express();
app.use('/graphql', createHandler({ schema }));
app.use('/events', events);
app.post('/orders', express.json(), async (req, res) => {
  const id = await events.broadcast({ event: 'order', data: { item: req.body.item } }, { to: 'orders' });
  res.status(201).json({ id });
});
// #endregion docs

await running(app.listen(process.env.PORT ?? 3000), () => events.close());
