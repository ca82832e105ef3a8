/*
 * What feeds the stream of a tab: its own request, or the stream that all tabs share.
 */

import type { Status } from './event-stream.ts';
import type { StreamErrorCode } from './stream-error.ts';

/** One event as it arrived. An empty `event` changes only the position: there is nothing to show. */
export interface Frame {
  readonly event: string;
  readonly data: string;
  /** The position after this event: the last event id of the stream. */
  readonly id: string;
  /** Whether it is the router's `end`. Another server's event of this name is an ordinary one. */
  readonly isEnd: boolean;
}

/** What a source reports with. After its `close()` it reports nothing. */
export type SourceListener = readonly [
  onFrames: (frames: readonly Frame[]) => void,
  onStatus: (status: Status) => void,
  onError: (code: StreamErrorCode, status?: number, cause?: unknown) => void,
];

export interface Source {
  /** Connects now, whatever the status. */
  reconnect(): void;
  /** Connects if the source waits to retry: now or, if the network is back, within a second. */
  wake(isOnline: boolean): void;
  close(): void;
}

/** The headers of one request. If they come from a function, the next request may have others: they are renewable. */
export type RequestHeaders = readonly [fields: Readonly<Record<string, string>>, isRenewable: boolean];

/** What a request needs beside its URL; a worker receives the part that can be cloned. */
export interface RequestSettings {
  /** Method, body and credentials. */
  readonly init: RequestInit;
  readonly silence?: number | false;
  readonly retry?: { readonly min?: number | undefined; readonly max?: number | undefined } | undefined;
}
