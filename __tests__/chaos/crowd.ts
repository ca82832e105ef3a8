/*
 * Many clients, and waiting for all of them.
 * Knows clients and where the fleet's servers are.
 * Invariant: a crowd that does not get where it should is an error that says how many did not.
 */
import { Client, type Street } from './client.ts';
import type { Fleet } from './fleet.ts';
import type { Random } from '../fixtures/random.ts';

export class Crowd implements Street {
  readonly clients: readonly Client[];
  readonly seen = new Map<string, string>();
  readonly faults: string[] = [];
  readonly #fleet: Fleet;
  readonly #random: Random;
  readonly #checks = new Set<() => void>();
  #cutting: NodeJS.Timeout | undefined;
  cuts = 0;

  constructor(fleet: Fleet, random: Random, size: number) {
    this.#fleet = fleet;
    this.#random = random;
    this.clients = Array.from({ length: size }, (_, i) => new Client(this, `room${i % 3}`));
  }

  /** Settles when everyone has a first position. */
  async arrive(): Promise<void> {
    for (const client of this.clients) client.dial();
    await this.until('have a first position', ({ stretches }) => stretches.length > 0);
  }

  port(): number | undefined {
    return this.#random.of(this.#fleet.ports);
  }

  /** Most come back at once; some have lost their network for longer than a fresh server remembers. */
  pause(): number {
    return this.#random.next() < 0.05 ? this.#random.between(2000, 4000) : this.#random.between(0, 20);
  }

  event(): void {
    for (const check of this.#checks) check();
  }

  /** Cuts so many sockets a second, at random. */
  harass(perSecond: number): void {
    this.#cutting = setInterval(() => {
      this.cuts++;
      this.#random.of(this.clients)!.cut();
    }, 1000 / perSecond);
  }

  calm(): void {
    clearInterval(this.#cutting);
  }

  /** Settles when this holds for every client; looked at when events arrive. */
  async until(what: string, holds: (client: Client) => boolean, ms = 30_000): Promise<void> {
    let missing = [...this.clients];
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
        const state = `room ${one!.room}, ${one!.open ? 'open' : 'closed'}, last id ${one!.lastId}`;
        reject(new Error(`After ${ms} ms ${missing.length} clients do not ${what}; one: ${state}`));
      }, ms);
      this.#checks.add(check);
      check();
    });
  }

  /** How many events a client has had. */
  count({ stretches }: Client): number {
    return stretches.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  leave(): void {
    this.calm();
    for (const client of this.clients) client.leave();
  }
}
