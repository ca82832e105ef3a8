/**
 * Server-sent events as an Express Router.
 * @packageDocumentation
 */

export { sse, type SseHandler, type SseRouter } from './sse.ts';
export type { BroadcastOptions } from './broadcast.ts';
export type { CloseReason, Connection } from './connection.ts';
export { SseError, SseTypeError, type SseErrorCode } from './errors.ts';
export type { Entry, Follower, Journal, NewEntry, ReadResult, ResetReason, Window } from './journal.ts';
export { memoryJournal, type MemoryJournalOptions } from './memory-journal.ts';
export type { AnyEvents, EventMap, Message, Snapshot } from './message.ts';
export type { HeaderValues, Limits, SseOptions } from './options.ts';
export type { Span } from './span.ts';
export type { Serialize } from './frame.ts';
export type { Source } from './source.ts';
export type { SseStats } from './stats.ts';
