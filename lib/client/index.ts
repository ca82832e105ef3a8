/**
 * A client of server-sent events for browsers.
 * @packageDocumentation
 */

export { connect } from './connect.ts';
export { StreamError, type StreamErrorCode } from './stream-error.ts';
export type {
  ConnectOptions,
  EventData,
  EventName,
  EventStream,
  EventsOf,
  Reset,
  Status,
  StreamEvent,
  Tabs,
} from './event-stream.ts';
export type { AnyEvents, EventMap } from '../api/message.ts';
