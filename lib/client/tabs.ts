/**
 * One stream for all tabs of an origin.
 * @packageDocumentation
 */

export { shared, type SharedOptions } from './shared-tabs.ts';
