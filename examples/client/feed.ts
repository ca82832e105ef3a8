/*
 * The stream of the client examples: orders, with a snapshot of all of them.
 */
// #region server
import { randomUUID } from 'node:crypto';
import { sse } from '../../lib/index.ts';

export interface Order {
  id: string;
  item: string;
  count: number;
}
type Events = { orders: Order[]; order: Order };

const orders: Order[] = [];
export const events = sse<Events>(() => {}, { snapshot: () => ({ event: 'orders', data: orders }) });

export async function sell(item: string, count: number): Promise<void> {
  const order = { id: randomUUID(), item, count };
  orders.push(order); // before the broadcast, so that no snapshot lacks it
  await events.broadcast({ event: 'order', data: order });
}
// #endregion server
