/**
 * React hooks for streams of `sse-router/client`.
 * @packageDocumentation
 */

export { useEvent, useEvents, useStatus, useStream } from './hooks.ts';
