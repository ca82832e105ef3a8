/**
 * A testing kit for any server of server-sent events: a real connection, every event in order, nothing left open.
 *
 * @packageDocumentation
 */
export { connect } from './connect.ts';
export type { ConnectOptions, ConnectTarget } from './connect.ts';
export type { StreamOver, TestStream } from './test-stream.ts';
export type { ReceivedEvent, TestEvent } from './event.ts';
