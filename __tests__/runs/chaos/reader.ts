/*
 * One reader of a run: reads events from a socket, and reconnects with its last id to any server that answers, until it has the end.
 */
import { connect, type Socket } from 'node:net';
import { StreamParser, type ParsedEvent } from '../../chaos/stream-parser.ts';
import type { ServerProcess } from './processes.ts';

/** What all readers share. */
export interface ReaderHost {
  /** Returns a server that answers; `undefined` if there is none. */
  server(): ServerProcess | undefined;
  /** Returns the milliseconds until a reader reconnects. */
  pause(): number;
  fault(text: string): void;
}

export class Reader {
  readonly run: string;
  /** The data of the chunks, from the first chunk of the run on. */
  readonly chunks: string[] = [];
  /** The generation that it reads. */
  generation = '';
  status: string | undefined;
  endedAt = Infinity;
  /** When its last connection was opened, and to which server. */
  connectedAt = 0;
  server: ServerProcess | undefined;
  connects = 0;
  /** Resolves when it has the end. */
  readonly ended: Promise<void>;
  /** Resolves when the head of its first answer with events has arrived. */
  readonly opened: Promise<void>;
  readonly #host: ReaderHost;
  readonly #starts: boolean;
  #onEnded!: () => void;
  #onOpened!: () => void;
  #isOpened = false;
  #lastId = '';
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  /** `starts`: it starts the run with a POST, once. */
  constructor(host: ReaderHost, run: string, starts: boolean) {
    this.#host = host;
    this.run = run;
    this.#starts = starts;
    this.ended = new Promise((resolve) => (this.#onEnded = resolve));
    this.opened = new Promise((resolve) => (this.#onOpened = resolve));
  }

  connect(): void {
    if (this.#isOver) return;
    const server = this.#host.server();
    if (server === undefined) {
      this.#timer = setTimeout(() => this.connect(), 50);
      return;
    }
    this.server = server;
    this.connectedAt = performance.now();
    this.connects++;
    const socket = connect(server.port, '127.0.0.1');
    const parser = new StreamParser();
    this.#socket = socket;
    const line = this.#starts && !this.#isOpened ? `POST /runs?id=${this.run}` : `GET /runs/${this.run}/stream`;
    const id = this.#lastId === '' ? '' : `Last-Event-ID: ${this.#lastId}\r\n`;
    socket.setEncoding('latin1').setNoDelay();
    socket.write(`${line} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\nContent-Length: 0\r\n${id}\r\n`);
    socket.on('data', (text: string) => this.#read(parser, text));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => {
      if (!this.#isOver) this.#timer = setTimeout(() => this.connect(), this.#host.pause());
    });
  }

  /** Resets the socket, as when the network fails. */
  cut(): void {
    this.#socket?.resetAndDestroy();
  }

  disconnect(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  #read(parser: StreamParser, text: string): void {
    if (this.#isOver || this.#socket?.destroyed) return;
    const hadHead = parser.status !== '';
    const events = parser.feed(text);
    if (!hadHead && parser.status !== '') {
      const status = Number(parser.status.split(' ')[1]);
      if (status === 200) {
        this.#isOpened = true;
        this.#onOpened();
      } else {
        // 204: another reader's POST has not begun the run yet. 503: the server starts.
        if (status !== 503 && !(status === 204 && this.#lastId === '' && !this.#starts)) {
          this.#fault(`was answered ${parser.status} at ${this.#lastId || 'its first request'}`);
        }
        this.#socket!.destroy();
        return;
      }
    }
    for (const event of events) this.#record(event);
  }

  #record({ event, id, data }: ParsedEvent): void {
    if (data === '') return; // a position without an event
    if (id === undefined) return this.#fault(`got «${event}» without an id`);
    const [, generation = '', number = ''] = id.split('~');
    if (this.generation === '') this.generation = generation;
    if (generation !== this.generation) this.#fault(`got ${id} after its generation ${this.generation}`);
    this.#lastId = id;
    if (event === 'end' && number === 'end') {
      this.status = data;
      this.endedAt = performance.now();
      this.disconnect();
      this.#onEnded();
    } else if (event !== 'message') this.#fault(`got an unknown event: ${event}`);
    else if (Number(number) !== this.chunks.length + 1) this.#fault(`got ${id} after ${this.chunks.length} chunks`);
    else this.chunks.push(data);
  }

  #fault(what: string): void {
    this.#host.fault(`A reader of ${this.run} ${what}`);
  }
}
