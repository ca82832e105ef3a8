/*
 * A client that stalls, drops and comes back with the last id that it read; and what must be true of what it has read.
 * Knows the hub as the application does, the pipe, and the engine as the truth to compare with.
 * Invariant: it judges by what a client sees, and by nothing that the hub says of itself.
 */

import type { Request } from 'express';
import type { Hub } from '../../lib/hub/hub.ts';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';
import { isDisconnect } from '../../lib/wire/event-stream.ts';
import { compare, type Engine } from './engine.ts';
import { Pipe, StreamReader, type Dispatched } from './pipe.ts';

/** What every client and check is told of the run. */
export interface Terms {
  /** Nothing leaves the log, or is forgotten: a reset is a failure. */
  readonly lossless: boolean;
  /** Nothing is forgotten by the engine: ids only grow. */
  readonly faithful: boolean;
  readonly snapshots: boolean;
}

/** A channel that was joined after the opening, and the head's id then. */
interface Late {
  readonly channel: string;
  readonly since: string;
}

/** One connection. */
interface Visit {
  readonly process: number;
  readonly pipe: Pipe;
  readonly stream: ServerConnection;
  readonly reader: StreamReader;
  readonly lastEventId: string;
  /** The head's id when it came. */
  readonly admittedAt: string;
  /** How many events have come. */
  events: number;
  late: Late[];
  /** What was pushed: the head's id then, or `undefined` for what comes before everything: pushed before the opening, in one go. */
  readonly pushed: (string | undefined)[];
  firstAt: string | undefined;
  received: number; // of these
  newest: string | undefined; // the last broadcast
  pushedAt: string | undefined; // the newest head at which something that has come was pushed
  /** It has been behind the ring or ahead of it, or is being ended: own words may come later than at their place. */
  loose: boolean;
}

export class Client {
  readonly name: number;
  readonly channels: readonly string[];
  lastEventId = '';
  visit: Visit | undefined;
  resets = 0;
  readonly #engine: Engine;
  readonly #terms: Terms;
  /** The position after which everything must have come; since the start or the last reset. */
  #base: string | undefined;
  #list: string[] = []; // the broadcasts since then
  /** The connections since then: up to which id each one went, and what it had joined late. */
  #spans: { readonly upTo: string; readonly late: readonly Late[] }[] = [];

  constructor(name: number, channels: readonly string[], engine: Engine, terms: Terms) {
    this.name = name;
    this.channels = channels;
    this.#engine = engine;
    this.#terms = terms;
  }

  admit(hub: Hub, process: number, pipe: Pipe): void {
    const admission = {
      request: {} as Request,
      lastEventId: this.lastEventId,
      padding: '',
      client: '',
      maxAge: undefined,
    };
    this.visit = {
      process,
      pipe,
      stream: hub.admit(pipe, admission),
      reader: new StreamReader((event) => this.#take(event)),
      lastEventId: this.lastEventId,
      admittedAt: hub.position,
      events: 0,
      late: [],
      pushed: [],
      firstAt: undefined,
      received: 0,
      newest: undefined,
      pushedAt: undefined,
      loose: false,
    };
    this.visit.stream.join(...this.channels);
  }

  /** The handler is done. */
  open(pushes: number): void {
    for (let i = 0; i < pushes; i++) this.push();
    this.visit!.stream.open();
  }

  push(): void {
    const visit = this.visit!;
    const { stream, pushed } = visit;
    if (stream.readyState === 'closed') return;
    const at = stream.host.ring.headId;
    if (pushed.length === 0) visit.firstAt = at;
    const first = stream.isUnopened && at === visit.firstAt && pushed.every((one) => one === undefined);
    pushed.push(first ? undefined : at);
    stream.push({ event: 'own', data: String(pushed.length) });
  }

  join(channel: string): void {
    const { stream, late } = this.visit!;
    if (stream.isUnopened || stream.readyState === 'closed' || stream.channels.has(channel)) return;
    stream.join(channel);
    late.push({ channel, since: stream.host.ring.headId });
  }

  read(bytes: number): boolean {
    const visit = this.visit!;
    const text = visit.pipe.read(bytes);
    visit.reader.feed(text);
    if (visit.pipe.isOver) this.leave();
    return text !== '';
  }

  /** The connection breaks: what was under way is lost, and so is an event of which the end is missing. */
  leave(): void {
    const { stream, late } = this.visit!;
    this.visit = undefined;
    if (this.#base !== undefined) this.#spans.push({ upTo: this.lastEventId, late });
    stream.onResponseClosed();
  }

  /** Looks at where its connection stands. */
  observe(): void {
    const { source, readyState } = this.visit!.stream;
    if (this.visit!.pipe.fault) throw this.visit!.pipe.fault;
    if (source === 'queued' || source === 'replaying' || source === 'paused' || readyState === 'closed')
      this.visit!.loose = true;
  }

  /** Everything that it should have by now has come, and nothing else. */
  check(): void {
    const { visit } = this;
    if (visit === undefined) throw new Error('it is not connected');
    if (visit.received !== visit.pushed.length)
      throw new Error(`${visit.received} of ${visit.pushed.length} pushes have come`);
    if (this.#base === undefined) throw new Error('it has no cursor');
    const disconnect = this.#disconnectOf(visit, this.#engine.head);
    if (disconnect !== undefined) throw new Error(`it is still connected after the disconnect ${disconnect}`);
    if (this.#engine.indexOf(this.lastEventId) === undefined)
      throw new Error(`it would come back with ${this.lastEventId}, a phantom`);
    const expected: string[] = [];
    let has = 0;
    for (const { id, sure } of this.#expected(visit)) {
      if (this.#list[has] === id) has++;
      else if (!sure) continue;
      expected.push(id);
    }
    if (expected.join() !== this.#list.join()) {
      throw new Error(`since ${this.#base} it should have [${expected.join(' ')}] and has [${this.#list.join(' ')}]`);
    }
  }

  /** The filtered log. */
  *#expected(visit: Visit): Generator<{ id: string; sure: boolean }> {
    const { history } = this.#engine;
    const spans = this.#spans.map(({ upTo, late }) => ({ until: this.#engine.truly(upTo), late }));
    spans.push({ until: Infinity, late: visit.late });
    for (let at = this.#engine.truly(this.#base!) + 1; at < history.length; at++) {
      const { late } = spans.find(({ until }) => at <= until)!;
      const since = late.filter((one) => at > this.#engine.truly(one.since));
      const joined = [...this.channels, ...since.map(({ channel }) => channel)];
      const { id, to, except, body } = history[at]!;
      if (isDisconnect(body)) continue;
      if (to && !to.some((channel) => joined.includes(channel))) continue;
      if (except?.some((channel) => joined.includes(channel))) continue;
      // Who joins late what an older broadcast is not for may have got it before or not.
      yield { id, sure: !except?.some((channel) => late.some((one) => one.channel === channel)) };
    }
  }

  #take({ event, data, id }: Dispatched): void {
    const visit = this.visit!;
    visit.events++;
    if (event === 'b') this.#broadcast(visit, id);
    else if (event === 'own') this.#own(visit, data, id);
    else if (event === 'reset') this.#reset(visit, data, id);
    else if (event === 'snapshot') {
      if (id !== undefined && data !== id) throw new Error(`a snapshot of ${data} with the position ${id}`);
    } else if (event !== 'checkpoint') throw new Error(`an event ${event}`);
    if (id === undefined) return;
    if (this.lastEventId === '') {
      if (this.#terms.faithful && !this.#terms.snapshots && event !== 'reset' && id !== visit.admittedAt) {
        throw new Error(`it came at ${visit.admittedAt}, and starts at ${id}`);
      }
      this.#begin(id);
    }
    this.lastEventId = id;
  }

  #begin(base: string): void {
    this.#base = base;
    this.#list = [];
    this.#spans = [];
  }

  #broadcast(visit: Visit, id: string | undefined): void {
    if (id === undefined) throw new Error('a broadcast without an id');
    if (this.#base === undefined) throw new Error(`the broadcast ${id} before any cursor`);
    if (this.#terms.faithful && visit.pushedAt !== undefined && compare(id, visit.pushedAt) <= 0) {
      throw new Error(`${id} after what was pushed at ${visit.pushedAt}`);
    }
    const disconnect = this.#disconnectOf(visit, id);
    if (disconnect !== undefined) throw new Error(`${id} after the disconnect ${disconnect}`);
    visit.newest = id;
    this.#list.push(id);
  }

  /** The first disconnect up to this id that ends the connection, if there is one. */
  #disconnectOf(visit: Visit, upTo: string): string | undefined {
    if (!this.#terms.faithful) return undefined;
    const { history } = this.#engine;
    const from = Math.max(this.#engine.trimmed, this.#engine.truly(visit.admittedAt) + 1); // what is trimmed may have been missed
    const to = this.#engine.truly(upTo);
    return history
      .slice(from, to + 1)
      .find((entry) => isDisconnect(entry.body) && entry.to!.some((channel) => this.channels.includes(channel)))?.id;
  }

  #own(visit: Visit, data: string, id: string | undefined): void {
    if (Number(data) !== ++visit.received) throw new Error(`the push ${data} as number ${visit.received}`);
    if (id !== undefined && (visit.events > 1 || visit.lastEventId !== '' || this.#terms.snapshots)) {
      throw new Error(`the push ${data} carries the position ${id}`);
    }
    const at = visit.pushed[visit.received - 1];
    if (at === undefined) {
      if (visit.newest !== undefined) throw new Error(`${visit.newest} before what was pushed before the opening`);
      return;
    }
    if (!this.#terms.faithful || visit.loose) return;
    visit.pushedAt = at;
    if (visit.newest !== undefined && compare(visit.newest, at) > 0)
      throw new Error(`what was pushed at ${at} after ${visit.newest}`);
  }

  #reset(visit: Visit, data: string, id: string | undefined): void {
    this.resets++;
    if (id === undefined) throw new Error('a reset without an id');
    const { reason, lastEventId } = JSON.parse(data) as { reason: string; lastEventId: string };
    if (this.#terms.lossless) throw new Error(`a reset (${reason}, ${lastEventId}) without a fault`);
    if (this.#terms.faithful && reason !== 'lost')
      throw new Error(`a reset (${reason}, ${lastEventId}) when there were only trims`);
    if (this.#terms.faithful && this.#engine.whyNot(lastEventId) === undefined) {
      throw new Error(`a reset (${reason}) although ${lastEventId} is in the log`);
    }
    visit.newest = undefined;
    visit.pushedAt = undefined;
    this.#begin(id);
  }
}
