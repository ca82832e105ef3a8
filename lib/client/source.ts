/*
 * What feeds the stream of a tab: its own request, or the stream that all tabs share.
 */

import type { Status } from './event-stream.ts';
import type { StreamError } from './stream-error.ts';

/** One event as it arrived. An empty `event` changes only the position: there is nothing to show. */
export interface Frame {
  readonly event: string;
  readonly data: string;
  /** The position after this event: the last event id of the stream. */
  readonly id: string;
  /** Set if the router itself sent the event. Another server's event of the same name is an ordinary one. */
  readonly control?: 'end' | 'reset' | undefined;
}

/** What a source reports with. After its `close()` it reports nothing. */
export type SourceListener = readonly [
  onFrames: (frames: readonly Frame[]) => void,
  onStatus: (status: Status) => void,
  onError: (error: StreamError) => void,
];

export interface Source {
  /** Connects now, whatever the status. */
  reconnect(): void;
  /** Connects now if the source waits to retry. */
  wake(): void;
  close(): void;
}

/** The headers of one request. */
export interface RequestHeaders {
  /** By name in lower case. */
  readonly fields: Readonly<Record<string, string>>;
  /** Whether the next request may have other headers: they come from a function. */
  readonly renewable: boolean;
}

/** What a request needs beside its URL; a worker receives the part that can be cloned. */
export interface RequestSettings {
  readonly credentials?: RequestCredentials;
  readonly silence?: number | false;
  readonly retry?: { readonly min: number; readonly max: number };
}
