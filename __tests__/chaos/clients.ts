/*
 * Many clients, and waiting for all of them.
 * If a condition does not hold for all clients in time, the error contains their number and one of them.
 */
import { Client, type ClientHost } from './client.ts';
import type { Fleet } from './fleet.ts';
import type { Random } from '../fixtures/random.ts';

export class Clients implements ClientHost {
  readonly all: readonly Client[];
  readonly seen = new Map<string, string>();
  readonly faults: string[] = [];
  readonly #fleet: Fleet;
  readonly #random: Random;
  readonly #checks = new Set<() => void>();
  #cutTimer: NodeJS.Timeout | undefined;
  cuts = 0;

  constructor(fleet: Fleet, random: Random, size: number) {
    this.#fleet = fleet;
    this.#random = random;
    this.all = Array.from({ length: size }, (_, i) => new Client(this, `room${i % 3}`));
  }

  /** Connects every client. Settles when each has a first position. */
  async connect(): Promise<void> {
    for (const client of this.all) client.connect();
    await this.until('have a first position', ({ stretches }) => stretches.length > 0);
  }

  port(): number | undefined {
    return this.#random.of(this.#fleet.ports);
  }

  /** Most clients reconnect at once. Some stay away for longer than the ring of a fresh server reaches back. */
  pause(): number {
    return this.#random.next() < 0.05 ? this.#random.between(2000, 4000) : this.#random.between(0, 20);
  }

  event(): void {
    for (const check of this.#checks) check();
  }

  /** Cuts this number of random sockets each second. */
  startCutting(perSecond: number): void {
    this.#cutTimer = setInterval(() => {
      this.cuts++;
      this.#random.of(this.all)!.cut();
    }, 1000 / perSecond);
  }

  stopCutting(): void {
    clearInterval(this.#cutTimer);
  }

  /** Settles when a condition holds for every client. It is checked when events arrive. */
  async until(what: string, holds: (client: Client) => boolean, ms = 30_000): Promise<void> {
    let missing = [...this.all];
    await new Promise<void>((resolve, reject) => {
      const check = (): void => {
        while (missing.length > 0 && holds(missing.at(-1)!)) missing.pop();
        if (missing.length > 0) return;
        clearTimeout(timer);
        this.#checks.delete(check);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#checks.delete(check);
        missing = missing.filter((client) => !holds(client));
        if (missing.length === 0) return resolve();
        const [one] = missing;
        const state = `room ${one!.room}, ${one!.isOpen ? 'open' : 'closed'}, last id ${one!.lastId}`;
        reject(new Error(`After ${ms} ms ${missing.length} clients do not ${what}; one: ${state}`));
      }, ms);
      this.#checks.add(check);
      check();
    });
  }

  /** Returns the number of events that a client has received. */
  count({ stretches }: Client): number {
    return stretches.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  disconnect(): void {
    this.stopCutting();
    for (const client of this.all) client.disconnect();
  }
}
