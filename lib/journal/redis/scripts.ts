/*
 * The scripts that run inside of Redis, where several steps must be one, and the keys that they use.
 * Invariant: all keys of a script begin with the log's key and hash to its slot.
 */
import { createHash } from 'node:crypto';

/** How many commands of one producer may be in flight. As many ids are stored for it: each entry that is sent again gets its own. */
export const MAX_IN_FLIGHT = 1024;

/** «Forever» in milliseconds. Redis rejects Infinity, and a script that fails at that command has already stored its entry. */
export const MAX_EXPIRY_MS = 10 * 365 * 86_400_000;

/**
 * Publishes one entry, at most once. A producer numbers its entries. After a loss it sends all unsettled entries again, in order.
 * KEYS: log, producer, [application's key]. ARGV: seq, the seq sent before it on this connection ('' for the first),
 * the slot of seq among the stored ids, ms to keep a producer, ms to keep a key, MAXLEN or '', field, value …
 *
 * Returns the entry's id; or nil if the entry before it was not stored. Then this entry is not stored either, and the producer
 * sends both again in order. (Without that, storing a seq after a rejected one would make the rejected one look like a duplicate
 * when it is sent again.)
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

/** Creates a log that does not exist, with a first entry that no connection receives: clients need a position. KEYS: log. */
export const CREATE_LOG = `
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
return redis.call('XADD', KEYS[1], '*', 'to', '[]')
`;

/** Returns the name of a script for EVALSHA. */
export function sha1(script: string): string {
  return createHash('sha1').update(script).digest('hex');
}

/**
 * Returns the prefix of the other keys of a log. It begins with the log's own key, for ACL patterns. It hashes to the log's slot:
 * by the log's `{tag}`, or by a tag that is the log's whole key. Undefined if braces in the key make that impossible.
 */
export function keyPrefixFor(log: string): string | undefined {
  if (/^[^{]*\{[^}]+\}/.test(log)) return log;
  return /[{}]/.test(log) ? undefined : `${log}:{${log}}`;
}
