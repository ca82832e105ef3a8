/*
 * The stream of the client examples: orders, with a snapshot of all of them.
 */
// #region server
import { sse } from '../../lib/index.ts';

export interface Order {
  item: string;
  count: number;
}
type Events = { orders: Order[]; order: Order };

const orders: Order[] = [];
export const events = sse<Events>(() => {}, { snapshot: () => ({ event: 'orders', data: orders }) });

export async function sell(order: Order): Promise<void> {
  orders.push(order);
  await events.broadcast({ event: 'order', data: order });
}
// #endregion server
