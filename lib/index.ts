/**
 * Server-sent events as an Express Router: push, channels, broadcast, and a resume without gaps or duplicates.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 * @packageDocumentation
 */

export {
  sse,
  type HandlerResult,
  type SseHandler,
  type SseRouter,
  type SseRouterWithoutHistory,
  type Transaction,
  type TransactionalBroadcast,
} from './http/router.ts';
export type { CloseReason, Connection } from './api/connection.ts';
export { SseError, SseTypeError, type SseErrorCode } from './errors.ts';
export type {
  Entry,
  Follower,
  Journal,
  NewEntry,
  ReadResult,
  ResetReason,
  JournalWindow,
  Window,
} from './journal/journal.ts';
export { memoryJournal, type MemoryJournalOptions } from './journal/memory-journal.ts';
export type { FollowedEvent, FollowOptions } from './hub/follow.ts';
export type {
  AnyEvents,
  BroadcastMessage,
  BroadcastOptions,
  BroadcastText,
  DefinedChannels,
  EventMap,
  Message,
  Snapshot,
} from './api/message.ts';
export type { HeaderValues, Limits, SseOptions } from './options/options.ts';
export type { DelayRange, Span } from './options/delay-range.ts';
export type { Serialize } from './wire/event-stream.ts';
export type { Source } from './api/source.ts';
export type { SseStats } from './diagnostics/stats.ts';
