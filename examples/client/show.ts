/*
 * How the pages show what they receive.
 */
import type { Order } from './feed.ts';

const element = (id: string): HTMLElement => document.getElementById(id)!;

/** Adds an order, or replaces the order with the same id: an event can be in the snapshot already. */
export function showOrder({ id, item, count }: Order): void {
  const line = document.createElement('li');
  line.id = `order-${id}`;
  line.textContent = `${count} × ${item}`;
  const shown = document.getElementById(line.id);
  if (shown) shown.replaceWith(line);
  else element('orders').append(line);
}

export function showOrders(orders: readonly Order[]): void {
  element('orders').replaceChildren();
  orders.forEach(showOrder);
}

export function showStatus(status: string): void {
  element('status').textContent = status;
}

export function addText(text: string): void {
  element('answer').append(text);
}
