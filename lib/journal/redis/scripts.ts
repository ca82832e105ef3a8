/*
 * What runs inside Redis, where several steps must be one.
 * Knows Redis' Lua and nothing else; publish.ts and log.ts call it.
 * Invariant: all keys of a script begin with the log's key and hash to its slot.
 */
import { createHash } from 'node:crypto';

/** How many commands of one producer may be in flight; as many ids are remembered for it, so that each re-send gets its own. */
export const IN_FLIGHT = 1024;

/** «For ever», to a command that takes milliseconds: it refuses what is endless, and a script that fails there has stored its entry. */
export const LONGEST = 10 * 365 * 86_400_000;

/**
 * One publish, at most once. A producer numbers its entries and, after a loss, sends everything unsettled again, in order.
 * KEYS log, producer, [application's key]; ARGV seq, the seq sent before it on this connection ('' for the first),
 * the seq's place among the remembered ids, ms to remember a producer, ms to remember a key, MAXLEN or '', field, value …
 *
 * Answers the entry's id, or nil when the one before it did not get in: then it did not either, and comes again in order.
 * (Without that, a seq after a refused one would make the refused one's re-send look like a duplicate.)
 */
export const PUBLISH = `
local seen = redis.call('HMGET', KEYS[2], 'seq', ARGV[3])
local last, seq = tonumber(seen[1]) or 0, tonumber(ARGV[1])
if seq <= last then return seen[2] end
if ARGV[2] ~= '' and last < tonumber(ARGV[2]) then return false end
local id = KEYS[3] and redis.call('GET', KEYS[3])
if not id then
  if ARGV[6] == '' then id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 7))
  else id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], '*', unpack(ARGV, 7)) end
  if KEYS[3] then redis.call('SET', KEYS[3], id, 'PX', ARGV[5]) end
end
redis.call('HSET', KEYS[2], 'seq', ARGV[1], ARGV[3], id)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return id
`;

/** A log that does not exist gets a first entry, for nobody: so that there is a position to hand out. KEYS log. */
export const GENESIS = `
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
return redis.call('XADD', KEYS[1], '*', 'to', '[]')
`;

/** A script's name for EVALSHA. */
export function sha1(script: string): string {
  return createHash('sha1').update(script).digest('hex');
}

/**
 * The keys beside a log begin with its own key, for ACL patterns, and hash to its slot: by the log's `{tag}`,
 * or by a tag that is the log's whole key. Undefined when braces in the key leave no such name.
 */
export function besideOf(log: string): string | undefined {
  if (/^[^{]*\{[^}]+\}/.test(log)) return log;
  return /[{}]/.test(log) ? undefined : `${log}:{${log}}`;
}
