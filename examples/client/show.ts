/*
 * How the pages show what they receive.
 */
import type { Order } from './feed.ts';

const element = (id: string): HTMLElement => document.getElementById(id)!;

export function addOrder({ item, count }: Order): void {
  const line = document.createElement('li');
  line.textContent = `${count} × ${item}`;
  element('orders').append(line);
}

export function showOrders(orders: readonly Order[]): void {
  element('orders').replaceChildren();
  orders.forEach(addOrder);
}

export function showStatus(status: string): void {
  element('status').textContent = status;
}

export function addText(text: string): void {
  element('answer').append(text);
}
