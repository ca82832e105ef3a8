/*
 * A client that stalls, disconnects and reconnects with the last id that it read, and the checks of what it has read.
 * Invariant: the checks compare what the client has read with the log of the engine. They use no state of the hub.
 */

import type { Request } from 'express';
import type { Hub } from '../../lib/hub/hub.ts';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';
import { END_EVENT_ID, isDisconnect } from '../../lib/wire/event-stream.ts';
import { compare, type Engine } from './engine.ts';
import { Pipe, StreamReader, type Dispatched } from './pipe.ts';

/** What the rules of a run guarantee to every client. */
export interface Guarantees {
  /** The log keeps every entry, so a reset is a failure. */
  readonly isLossless: boolean;
  /** The engine loses no new entries, so ids only grow. */
  readonly idsOnlyGrow: boolean;
  readonly hasSnapshots: boolean;
}

/** A channel that the connection joined after it opened, and the id of the head at that moment. */
interface LateJoin {
  readonly channel: string;
  readonly since: string;
}

/** What a client records of one connection. */
interface Attachment {
  readonly process: number;
  readonly pipe: Pipe;
  readonly connection: ServerConnection;
  readonly reader: StreamReader;
  /** The last event id that the request contained. */
  readonly lastEventId: string;
  /** Whether this id is foreign: the journal has not issued it. */
  readonly isForeign: boolean;
  /** The id of the head when the hub admitted the connection. */
  readonly headWhenAdmitted: string;
  eventsReceived: number;
  lateJoins: LateJoin[];
  /**
   * The id of the head at each push. It is `undefined` for the pushes before the opening, while the head did not change: they arrive
   * before any broadcast.
   */
  readonly pushHeads: (string | undefined)[];
  firstPushHead: string | undefined;
  pushesReceived: number;
  lastBroadcast: string | undefined;
  /** The newest head at which a push that has arrived was made. */
  newestPushHead: string | undefined;
  /** Whether own messages may arrive after newer broadcasts: the connection has been behind the ring, ahead of it, or closing. */
  pushesMayLag: boolean;
  /** The id of the head when the connection was ended for good. */
  endHead: string | undefined;
}

export class Client {
  readonly name: number;
  readonly channels: readonly string[];
  lastEventId = '';
  attachment: Attachment | undefined;
  resets = 0;
  /** Whether the last event id is from another library or another journal. */
  #isForeign = false;
  readonly #engine: Engine;
  readonly #guarantees: Guarantees;
  /** The position of the start or of the last reset. The client must have every entry after it. */
  #startId: string | undefined;
  /** The ids of the broadcasts since then. */
  #broadcasts: string[] = [];
  /** The earlier connections since then: the last id that each of them received, and its late joins. */
  #earlierSpans: { readonly lastId: string; readonly lateJoins: readonly LateJoin[] }[] = [];

  constructor(name: number, channels: readonly string[], engine: Engine, guarantees: Guarantees) {
    this.name = name;
    this.channels = channels;
    this.#engine = engine;
    this.#guarantees = guarantees;
  }

  admit(hub: Hub, process: number, pipe: Pipe): void {
    const admission = {
      request: {} as Request,
      lastEventId: this.lastEventId,
      padding: '',
      client: '',
      maxAge: undefined,
    };
    this.attachment = {
      process,
      pipe,
      connection: hub.admit(pipe, admission),
      reader: new StreamReader((event) => this.#onEvent(event)),
      lastEventId: this.lastEventId,
      isForeign: this.#isForeign,
      headWhenAdmitted: hub.position,
      eventsReceived: 0,
      lateJoins: [],
      pushHeads: [],
      firstPushHead: undefined,
      pushesReceived: 0,
      lastBroadcast: undefined,
      newestPushHead: undefined,
      pushesMayLag: false,
      endHead: undefined,
    };
    this.attachment.connection.join(...this.channels);
  }

  /** The handler pushes some messages and returns. */
  open(pushes: number): void {
    for (let i = 0; i < pushes; i++) this.push();
    this.attachment!.connection.open();
  }

  push(): void {
    const attachment = this.attachment!;
    const { connection, pushHeads } = attachment;
    if (connection.readyState === 'closed') return;
    const head = connection.host.ring.headId;
    if (pushHeads.length === 0) attachment.firstPushHead = head;
    const isFirst =
      connection.isUnopened && head === attachment.firstPushHead && pushHeads.every((id) => id === undefined);
    pushHeads.push(isFirst ? undefined : head);
    connection.push({ event: 'own', data: String(pushHeads.length) });
  }

  join(channel: string): void {
    const { connection, lateJoins } = this.attachment!;
    if (connection.isUnopened || connection.readyState === 'closed' || connection.channels.has(channel)) return;
    connection.join(channel);
    lateJoins.push({ channel, since: connection.host.ring.headId });
  }

  /** Ends the connection for good. */
  end(): void {
    const { connection } = this.attachment!;
    if (connection.readyState === 'closed') return;
    this.attachment!.endHead = connection.host.ring.headId;
    connection.end();
  }

  /** The page was open while the application moved here from another library or another journal. */
  moveHereWith(foreignId: string): void {
    this.#forget();
    this.lastEventId = foreignId;
    this.#isForeign = true;
  }

  /** Reads at most so many bytes. Returns whether there were any. */
  read(bytes: number): boolean {
    const { pipe, reader } = this.attachment!;
    const text = pipe.read(bytes);
    reader.feed(text);
    if (pipe.isOver) this.detach();
    return text !== '';
  }

  /** Breaks the connection. Bytes that the client has not read are lost, and so is an event whose end is missing. */
  detach(): void {
    const { connection, lateJoins } = this.attachment!;
    this.attachment = undefined;
    if (this.#startId !== undefined) this.#earlierSpans.push({ lastId: this.lastEventId, lateJoins });
    connection.onResponseClosed();
  }

  /** Records the state of the connection. Throws the fault of its pipe. */
  observe(): void {
    const { pipe, connection } = this.attachment!;
    const { source, readyState } = connection;
    if (pipe.fault) throw pipe.fault;
    if (source === 'queued' || source === 'replaying' || source === 'paused' || readyState === 'closed')
      this.attachment!.pushesMayLag = true;
  }

  /** Throws unless the client has received exactly what it must have received by now. */
  check(): void {
    const { attachment } = this;
    if (attachment === undefined) throw new Error('The client is not connected');
    const { pushesReceived, pushHeads } = attachment;
    if (pushesReceived !== pushHeads.length)
      throw new Error(`The client received ${pushesReceived} of ${pushHeads.length} pushes`);
    if (this.#startId === undefined) throw new Error('The client received no id');
    const disconnect = this.#disconnectOf(attachment, this.#engine.head);
    if (disconnect !== undefined) throw new Error(`The client is still connected after the disconnect ${disconnect}`);
    if (this.#engine.indexOf(this.lastEventId) === undefined)
      throw new Error(`The client would reconnect with ${this.lastEventId}, which is not in the log`);
    this.#checkBroadcasts(attachment, Infinity);
  }

  /** Throws unless the client has received its entries up to this index of the log. */
  #checkBroadcasts(attachment: Attachment, upTo: number): void {
    const expected: string[] = [];
    let matched = 0;
    for (const { id, isRequired } of this.#expectedEntries(attachment, upTo)) {
      if (this.#broadcasts[matched] === id) matched++;
      else if (!isRequired) continue;
      expected.push(id);
    }
    if (expected.join() !== this.#broadcasts.join()) {
      throw new Error(
        `After ${this.#startId} the client must receive [${expected.join(' ')}], and received [${this.#broadcasts.join(' ')}]`,
      );
    }
  }

  /** Yields the entries of the log that are for this client. An entry that is not required may have been received or not. */
  *#expectedEntries(attachment: Attachment, upTo: number): Generator<{ id: string; isRequired: boolean }> {
    const { history } = this.#engine;
    const spans = this.#earlierSpans.map(({ lastId, lateJoins }) => ({
      lastIndex: this.#engine.effectiveIndexOf(lastId),
      lateJoins,
    }));
    spans.push({ lastIndex: Infinity, lateJoins: attachment.lateJoins });
    for (let i = this.#engine.effectiveIndexOf(this.#startId!) + 1; i < history.length && i <= upTo; i++) {
      const { lateJoins } = spans.find(({ lastIndex }) => i <= lastIndex)!;
      const earlierJoins = lateJoins.filter(({ since }) => i > this.#engine.effectiveIndexOf(since));
      const joined = [...this.channels, ...earlierJoins.map(({ channel }) => channel)];
      const { id, to, except, body } = history[i]!;
      if (isDisconnect(body)) continue;
      if (to && !to.some((channel) => joined.includes(channel))) continue;
      if (except?.some((channel) => joined.includes(channel))) continue;
      // A late join of an excluded channel may happen before or after the connection receives the older broadcast.
      const isRequired = !except?.some((channel) => lateJoins.some((join) => join.channel === channel));
      yield { id, isRequired };
    }
  }

  #onEvent({ event, data, id }: Dispatched): void {
    const attachment = this.attachment!;
    attachment.eventsReceived++;
    if (event === 'end') return this.#onEnd(attachment, id);
    if (this.#isForeign && id !== undefined && event !== 'reset')
      throw new Error(`The client came with a foreign id, and received the id ${id} without a reset`);
    if (event === 'b') this.#onBroadcast(attachment, id);
    else if (event === 'own') this.#onPush(attachment, data, id);
    else if (event === 'reset') this.#onReset(attachment, data, id);
    else if (event === 'snapshot') {
      if (id !== undefined && data !== id) throw new Error(`The snapshot of the position ${data} has the id ${id}`);
    } else if (event !== 'checkpoint') throw new Error(`The client received an unknown event, ${event}`);
    if (id === undefined) return;
    if (this.lastEventId === '') {
      if (
        this.#guarantees.idsOnlyGrow &&
        !this.#guarantees.hasSnapshots &&
        event !== 'reset' &&
        id !== attachment.headWhenAdmitted
      ) {
        throw new Error(`The client connected at ${attachment.headWhenAdmitted}, and its first id is ${id}`);
      }
      this.#startAt(id);
    }
    this.lastEventId = id;
    this.#isForeign = false;
  }

  /** The client has everything, and never returns. Another page takes its place. */
  #onEnd(attachment: Attachment, id: string | undefined): void {
    if (id !== END_EVENT_ID || attachment.endHead === undefined)
      throw new Error(`The client received an end with the id ${id}`);
    const { pushesReceived, pushHeads } = attachment;
    if (pushesReceived !== pushHeads.length)
      throw new Error(`The client received an end, and ${pushesReceived} of ${pushHeads.length} pushes`);
    // With losses, the log may have changed between the end and its arrival.
    if (this.#guarantees.idsOnlyGrow && this.#startId !== undefined) {
      const { isForeign, lastEventId, endHead } = attachment;
      const hadBefore = isForeign || lastEventId === '' ? -1 : this.#engine.effectiveIndexOf(lastEventId);
      this.#checkBroadcasts(attachment, Math.max(hadBefore, this.#engine.effectiveIndexOf(endHead)));
    }
    this.#forget();
  }

  #forget(): void {
    this.lastEventId = '';
    this.#startId = undefined;
    this.#broadcasts = [];
    this.#earlierSpans = [];
    this.#isForeign = false;
  }

  #startAt(id: string): void {
    this.#startId = id;
    this.#broadcasts = [];
    this.#earlierSpans = [];
  }

  #onBroadcast(attachment: Attachment, id: string | undefined): void {
    if (id === undefined) throw new Error('A broadcast has no id');
    if (this.#startId === undefined) throw new Error(`The broadcast ${id} arrived before any position`);
    if (
      this.#guarantees.idsOnlyGrow &&
      attachment.newestPushHead !== undefined &&
      compare(id, attachment.newestPushHead) <= 0
    ) {
      throw new Error(`The broadcast ${id} arrived after a push made at ${attachment.newestPushHead}`);
    }
    const disconnect = this.#disconnectOf(attachment, id);
    if (disconnect !== undefined) throw new Error(`The broadcast ${id} arrived after the disconnect ${disconnect}`);
    attachment.lastBroadcast = id;
    this.#broadcasts.push(id);
  }

  /** Returns the id of the first disconnect, up to this id, that closes the connection, if there is one. */
  #disconnectOf(attachment: Attachment, upTo: string): string | undefined {
    if (!this.#guarantees.idsOnlyGrow) return undefined;
    const { history } = this.#engine;
    const afterAdmission = this.#engine.effectiveIndexOf(attachment.headWhenAdmitted) + 1;
    const from = Math.max(this.#engine.trimmed, afterAdmission); // the process may have missed trimmed entries
    const to = this.#engine.effectiveIndexOf(upTo);
    return history
      .slice(from, to + 1)
      .find((entry) => isDisconnect(entry.body) && entry.to!.some((channel) => this.channels.includes(channel)))?.id;
  }

  #onPush(attachment: Attachment, data: string, id: string | undefined): void {
    if (Number(data) !== ++attachment.pushesReceived)
      throw new Error(`The push ${data} arrived as number ${attachment.pushesReceived}`);
    const { eventsReceived, lastEventId, lastBroadcast } = attachment;
    if (id !== undefined && (eventsReceived > 1 || lastEventId !== '' || this.#guarantees.hasSnapshots)) {
      throw new Error(`The push ${data} has the id ${id}`);
    }
    const head = attachment.pushHeads[attachment.pushesReceived - 1];
    if (head === undefined) {
      if (lastBroadcast !== undefined)
        throw new Error(`The broadcast ${lastBroadcast} arrived before a push made before the opening`);
      return;
    }
    if (!this.#guarantees.idsOnlyGrow || attachment.pushesMayLag) return;
    attachment.newestPushHead = head;
    if (lastBroadcast !== undefined && compare(lastBroadcast, head) > 0)
      throw new Error(`A push made at ${head} arrived after the broadcast ${lastBroadcast}`);
  }

  #onReset(attachment: Attachment, data: string, id: string | undefined): void {
    this.resets++;
    if (id === undefined) throw new Error('A reset has no id');
    const { reason, lastEventId } = JSON.parse(data) as { reason: string; lastEventId: string };
    const isOfForeignId = attachment.isForeign && lastEventId === attachment.lastEventId;
    if (!isOfForeignId) this.#checkReset(reason, lastEventId);
    attachment.lastBroadcast = undefined;
    attachment.newestPushHead = undefined;
    this.#startAt(id);
  }

  /** Throws unless the log has lost what the client missed. */
  #checkReset(reason: string, lastEventId: string): void {
    if (this.#guarantees.isLossless)
      throw new Error(`The client received a reset (${reason}, ${lastEventId}) although the log lost nothing`);
    if (this.#guarantees.idsOnlyGrow && reason !== 'lost')
      throw new Error(`The client received a reset (${reason}, ${lastEventId}) although entries were only trimmed`);
    if (this.#guarantees.idsOnlyGrow && this.#engine.refusalOf(lastEventId) === undefined) {
      throw new Error(`The client received a reset (${reason}) although ${lastEventId} is in the log`);
    }
  }
}
