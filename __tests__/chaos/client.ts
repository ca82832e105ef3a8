/*
 * One of the crowd: reads events from a socket, and comes back at once with its last id wherever somebody answers.
 * Knows the wire; where servers are is told to it.
 * Invariant: it writes down everything that it was sent, and never what did not arrive whole.
 */
import { connect, type Socket } from 'node:net';
import { Wire, type WireEvent } from './wire.ts';

/** What it was sent from one beginning, or reset, to the next. */
export interface Stretch {
  readonly reset?: { readonly reason: string; readonly lastEventId: string; readonly mine: string };
  /** The ids of its events. */
  readonly ids: string[];
  /** The id that it begins with, and the checkpoints: each with the number of events before it. */
  readonly marks: (readonly [at: number, id: string])[];
}

/** What all clients of a crowd share. */
export interface Street {
  /** A port where a server answers; undefined while there is none. */
  port(): number | undefined;
  /** How long a client stays away now, in milliseconds. */
  pause(): number;
  /** One string for each id, and the data that came with it. */
  readonly seen: Map<string, string>;
  readonly faults: string[];
  event(client: Client, id: string): void;
}

export class Client {
  readonly room: string;
  readonly stretches: Stretch[] = [];
  connects = 0;
  comments = 0;
  /** The head of an answer has arrived, and the socket is still there. */
  open = false;
  readonly #street: Street;
  #lastId = '';
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #left = false;

  constructor(street: Street, room: string) {
    this.#street = street;
    this.room = room;
  }

  get lastId(): string {
    return this.#lastId;
  }

  dial(): void {
    const port = this.#street.port();
    if (this.#left) return;
    if (port === undefined) {
      this.#timer = setTimeout(() => this.dial(), 50);
      return;
    }
    const socket = connect(port, '127.0.0.1');
    const wire = new Wire();
    this.#socket = socket;
    this.connects++;
    socket.setEncoding('latin1').setNoDelay();
    const id = this.#lastId === '' ? '' : `Last-Event-ID: ${this.#lastId}\r\n`;
    socket.write(`GET /events?room=${this.room} HTTP/1.1\r\nHost: chaos\r\nAccept: text/event-stream\r\n${id}\r\n`);
    socket.on('data', (text: string) => this.#read(wire, text));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => this.#over());
  }

  /** The network fails. */
  cut(): void {
    this.#socket?.resetAndDestroy();
  }

  leave(): void {
    this.#left = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  #over(): void {
    this.open = false;
    if (!this.#left) this.#timer = setTimeout(() => this.dial(), this.#street.pause());
  }

  #read(wire: Wire, text: string): void {
    if (this.#socket?.destroyed) return;
    const before = wire.comments;
    for (const event of wire.feed(text)) this.#take(event);
    this.comments += wire.comments - before;
    if (wire.status === '' || this.open) return;
    this.open = true;
    if (!wire.status.includes(' 200 ')) this.#fault(`was answered ${wire.status}`);
  }

  #take({ event, id, data }: WireEvent): void {
    if (id === undefined) return this.#fault(`got «${event}» without an id`);
    const mine = this.#lastId;
    this.#lastId = id;
    if (event === 'reset') {
      this.stretches.push({ reset: { ...(JSON.parse(data) as any), mine }, ids: [], marks: [[0, id]] });
    } else if (event === 'checkpoint') {
      if (this.stretches.length === 0) this.stretches.push({ ids: [], marks: [] });
      const { ids, marks } = this.stretches.at(-1)!;
      marks.push([ids.length, id]);
    } else if (event === 'message') {
      const { seen } = this.#street;
      if (!seen.has(id)) seen.set(id, data);
      else if (seen.get(id) !== data) this.#fault(`got ${id} as ${data}, others as ${seen.get(id)}`);
      if (this.stretches.length === 0) this.#fault('got an event before its first position');
      else this.stretches.at(-1)!.ids.push(id);
    } else this.#fault(`got an event that nobody sent: ${event}`);
    this.#street.event(this, id);
  }

  #fault(what: string): void {
    this.#street.faults.push(`A client of ${this.room} ${what}`);
  }
}
