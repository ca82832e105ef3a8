/**
 * A testing kit for any server of server-sent events. It opens real connections, returns every event in order, and leaves
 * nothing open.
 *
 * @packageDocumentation
 */
export { connect } from './connect.ts';
export type { ConnectOptions, ConnectTarget } from './connect.ts';
export type { StreamOver, TestStream } from './test-stream.ts';
export type { ReceivedEvent, TestEvent } from './event.ts';
