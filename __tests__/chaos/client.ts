/*
 * One client: reads events from a socket, and reconnects with its last id to any server that answers.
 * It records every event that arrived complete, and no incomplete one.
 */
import { connect, type Socket } from 'node:net';
import { StreamParser, type ParsedEvent } from './stream-parser.ts';

/** The events from one start, or reset, to the next. */
export interface Stretch {
  readonly reset?: { readonly reason: string; readonly lastEventId: string; readonly mine: string };
  /** The ids of its events. */
  readonly ids: string[];
  /** The id of the start, and the checkpoints: each with the number of events before it. */
  readonly marks: (readonly [at: number, id: string])[];
}

/** One connection: the position of the server at its admission, and its last event. */
export interface Admission {
  readonly position: string;
  lastId: string;
}

/** What all clients share. */
export interface ClientHost {
  /** Returns the port of a server that answers; `undefined` if there is none. */
  port(): number | undefined;
  /** Returns the milliseconds until a client reconnects. */
  pause(): number;
  /** The data of each id. */
  readonly seen: Map<string, string>;
  readonly faults: string[];
  event(client: Client, id: string): void;
}

export class Client {
  readonly room: string;
  readonly stretches: Stretch[] = [];
  readonly admissions: Admission[] = [];
  connects = 0;
  comments = 0;
  /** Whether the head of an answer has arrived and the socket is open. */
  isOpen = false;
  readonly #host: ClientHost;
  #lastId = '';
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isDisconnected = false;

  constructor(host: ClientHost, room: string) {
    this.#host = host;
    this.room = room;
  }

  get lastId(): string {
    return this.#lastId;
  }

  connect(): void {
    const port = this.#host.port();
    if (this.#isDisconnected) return;
    if (port === undefined) {
      this.#timer = setTimeout(() => this.connect(), 50);
      return;
    }
    const socket = connect(port, '127.0.0.1');
    const parser = new StreamParser();
    this.#socket = socket;
    this.connects++;
    socket.setEncoding('latin1').setNoDelay();
    const id = this.#lastId === '' ? '' : `Last-Event-ID: ${this.#lastId}\r\n`;
    socket.write(`GET /events?room=${this.room} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n${id}\r\n`);
    socket.on('data', (text: string) => this.#read(parser, text));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => this.#onClosed());
  }

  /** Resets the socket, as when the network fails. */
  cut(): void {
    this.#socket?.resetAndDestroy();
  }

  disconnect(): void {
    this.#isDisconnected = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  #onClosed(): void {
    this.isOpen = false;
    if (!this.#isDisconnected) this.#timer = setTimeout(() => this.connect(), this.#host.pause());
  }

  #read(parser: StreamParser, text: string): void {
    if (this.#socket?.destroyed) return;
    const before = parser.comments;
    const events = parser.feed(text);
    if (parser.status !== '' && !this.isOpen) this.admissions.push({ position: parser.position, lastId: '' });
    for (const event of events) this.#record(event);
    this.comments += parser.comments - before;
    if (parser.status === '' || this.isOpen) return;
    this.isOpen = true;
    if (!parser.status.includes(' 200 ')) this.#fault(`was answered ${parser.status}`);
  }

  #record({ event, id, data }: ParsedEvent): void {
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
      const { seen } = this.#host;
      if (!seen.has(id)) seen.set(id, data);
      else if (seen.get(id) !== data) this.#fault(`got ${id} as ${data}, others as ${seen.get(id)}`);
      if (this.stretches.length === 0) this.#fault('got an event before its first position');
      else this.stretches.at(-1)!.ids.push(id);
      this.admissions.at(-1)!.lastId = id;
    } else this.#fault(`got an unknown event: ${event}`);
    this.#host.event(this, id);
  }

  #fault(what: string): void {
    this.#host.faults.push(`A client of ${this.room} ${what}`);
  }
}
