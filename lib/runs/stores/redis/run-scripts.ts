/*
 * The scripts of runs: what must be one step in Redis, with Redis' clock.
 * Invariant: a script uses only the keys that it receives, and all of them belong to one bucket.
 * Invariant: a script may run twice. Its caller sends it again if the reply was lost.
 */
import { createHash } from 'node:crypto';

/** The largest number in an id of a stream. After an entry with it, Redis refuses every XADD: so the end fences the producer. */
export const MAX_ID_PART = '18446744073709551615';

/**
 * `top` returns the number of the newest chunk and the bytes so far, from the id of the last entry; nil if there is no log.
 * `record` returns the state of a generation as a list; see run-record.ts. `finish` writes the end of a running generation.
 */
const FUNCTIONS = `
local MAX = '${MAX_ID_PART}'
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function whole(number) return string.format('%.0f', number) end
local function top(log)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', '1')[1]
  if not last then return nil end
  local chunks, bytes = string.match(last[1], '^(%d+)-(%d+)$')
  if chunks == '0' then bytes = '0' end
  return chunks, bytes
end
local function record(meta, log, now)
  local m = redis.call('HMGET', meta, 'status', 'startedAt', 'endedAt', 'chunks', 'bytes', 'expires', 'lease', 'wake')
  if not m[1] then return false end
  local chunks, bytes = top(log)
  if not chunks then return false end
  if m[1] ~= 'running' then chunks, bytes = m[4], m[5] end
  return { m[1], m[2], m[3] or '', chunks, bytes, whole(m[6] - now), m[7], m[6], m[8] }
end
local function finish(newest, meta, log, generation, status, now)
  local chunks, bytes = top(log)
  local m = redis.call('HMGET', meta, 'startedAt', 'keep', 'stop')
  if status == 'lost' and m[3] then status = 'stopped' end
  redis.call('XADD', log, MAX .. '-' .. MAX, 'status', status, 'startedAt', m[1], 'endedAt', whole(now),
    'chunks', chunks, 'bytes', bytes)
  redis.call('HSET', meta, 'status', status, 'endedAt', whole(now), 'chunks', chunks, 'bytes', bytes)
  redis.call('PEXPIRE', meta, m[2])
  redis.call('PEXPIRE', log, m[2])
  if redis.call('GET', newest) == generation then redis.call('PEXPIRE', newest, m[2]) end
end
`;

/**
 * Begins a generation. KEYS: newest, meta, log, [meta and log of the previous generation].
 * ARGV: generation, lease, keep, again, wake, previous generation or '', '1' if a previous generation with an expired lease may end.
 *
 * Returns what happened, and a value: `started`, with the new record; `running`, with the record of the previous generation, which
 * continues; `expired`, with its record, if its lease has expired and it may not end; or `previous`, with the name of a previous
 * generation whose keys the caller must pass.
 */
export const BEGIN = `${FUNCTIONS}
local now = clock()
local current = redis.call('GET', KEYS[1])
if current == ARGV[1] then return { 'started', record(KEYS[2], KEYS[3], now) } end
if current and current ~= ARGV[6] then return { 'previous', current } end
if current then
  local previous = record(KEYS[4], KEYS[5], now)
  if previous and previous[1] == 'running' then
    if ARGV[4] == 'replace' then finish(KEYS[1], KEYS[4], KEYS[5], current, 'stopped', now)
    elseif tonumber(previous[6]) > 0 then return { 'running', previous }
    elseif ARGV[7] == '1' then finish(KEYS[1], KEYS[4], KEYS[5], current, 'lost', now)
    else return { 'expired', previous } end
  end
end
local life = whole(ARGV[2] + ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', life)
redis.call('HSET', KEYS[2], 'status', 'running', 'startedAt', whole(now), 'lease', ARGV[2], 'keep', ARGV[3],
  'expires', whole(now + ARGV[2]), 'wake', ARGV[5])
redis.call('PEXPIRE', KEYS[2], life)
redis.call('XADD', KEYS[3], '0-1', 'startedAt', whole(now))
redis.call('PEXPIRE', KEYS[3], life)
return { 'started', record(KEYS[2], KEYS[3], now) }
`;

/**
 * Appends chunks, unless they are in the log already: the first append of a run on a connection, because writes may be lost between
 * two connections. KEYS: log. ARGV: the number before the first chunk, the number of the last chunk, bytes, field, value.
 * Returns `stored` and the bytes of the log; or `ended`, `gap` (the log does not end before the first chunk), `missing`.
 */
export const APPEND = `${FUNCTIONS}
local chunks, bytes = top(KEYS[1])
if not chunks then return { 'missing' } end
if chunks == MAX then return { 'ended' } end
if chunks == ARGV[2] then return { 'stored', bytes } end
if chunks ~= ARGV[1] then return { 'gap' } end
bytes = whole(bytes + ARGV[3])
redis.call('XADD', KEYS[1], ARGV[2] .. '-' .. bytes, ARGV[4], ARGV[5])
return { 'stored', bytes }
`;

/**
 * Ends a generation, unless it has ended. KEYS: newest, meta, log. ARGV: generation, status; two numbers of which one is that of the
 * newest chunk, or else writes were lost and the run ends as lost ('' if the caller does not have them); the time of the lease
 * ('' for any): if the lease has been renewed, the run does not end.
 * Returns the record; nil if there is no log.
 */
export const END = `${FUNCTIONS}
local now = clock()
local r = record(KEYS[2], KEYS[3], now)
if not r then redis.call('DEL', KEYS[2], KEYS[3]) return false end
if r[1] ~= 'running' then return r end
if ARGV[5] ~= '' and (r[8] ~= ARGV[5] or tonumber(r[6]) > 0) then return r end
local status = ARGV[2]
if ARGV[3] ~= '' and r[4] ~= ARGV[3] and r[4] ~= ARGV[4] then status = 'lost' end
finish(KEYS[1], KEYS[2], KEYS[3], ARGV[1], status, now)
return record(KEYS[2], KEYS[3], now)
`;

/**
 * Extends leases. KEYS: newest, meta and log of each run. ARGV: the generation of each run.
 * Returns a number for each run: 1 if it is running, plus 2 if a stop is on record, plus 4 if readers are noted.
 */
export const RENEW = `${FUNCTIONS}
local now = clock()
local renewals = {}
for i = 1, #ARGV do
  local newest, meta, log = KEYS[i * 3 - 2], KEYS[i * 3 - 1], KEYS[i * 3]
  local m = redis.call('HMGET', meta, 'status', 'lease', 'keep', 'stop', 'readers')
  local flags = 0
  if m[1] == 'running' then
    local life = whole(m[2] + m[3])
    if redis.call('PEXPIRE', log, life) == 1 then
      redis.call('HSET', meta, 'expires', whole(now + m[2]))
      redis.call('PEXPIRE', meta, life)
      redis.call('SET', newest, ARGV[i], 'NX')
      if redis.call('GET', newest) == ARGV[i] then redis.call('PEXPIRE', newest, life) end
      flags = 1
    end
  end
  if m[4] then flags = flags + 2 end
  if m[5] and tonumber(m[5]) > now then flags = flags + 4 end
  renewals[i] = flags
end
return renewals
`;

/** Returns the record of a generation; nil if it is unknown. KEYS: meta, log. */
export const STATE = `${FUNCTIONS}
return record(KEYS[1], KEYS[2], clock())
`;

/**
 * Puts a stop on record if the generation is running, and its lease has not expired or ARGV[1] is '1'. KEYS: meta, log.
 * Returns the record; nil if it is unknown.
 */
export const STOP = `${FUNCTIONS}
local r = record(KEYS[1], KEYS[2], clock())
if r and r[1] == 'running' and (tonumber(r[6]) > 0 or ARGV[1] == '1') then redis.call('HSET', KEYS[1], 'stop', '1') end
return r
`;

/** Notes that running generations have readers. KEYS: meta of each. ARGV: milliseconds. */
export const NOTE_READERS = `${FUNCTIONS}
local readers = whole(clock() + ARGV[1])
for _, meta in ipairs(KEYS) do
  if redis.call('HGET', meta, 'status') == 'running' then redis.call('HSET', meta, 'readers', readers) end
end
`;

/**
 * Notes that a process has reached this Redis. KEYS: uptime. ARGV: the id that Redis has had since it was started, milliseconds that
 * the key is kept. Returns for how many milliseconds processes have reached it.
 */
export const REACHED = `${FUNCTIONS}
local now = clock()
local m = redis.call('HMGET', KEYS[1], 'server', 'since')
if m[1] == ARGV[1] then return math.max(0, now - m[2]) end
redis.call('HSET', KEYS[1], 'server', ARGV[1], 'since', whole(now))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
`;

export const SCRIPTS: readonly string[] = [BEGIN, APPEND, END, RENEW, STATE, STOP, NOTE_READERS, REACHED];

/** Returns the names of the scripts for EVALSHA. */
export function scriptNames(): ReadonlyMap<string, string> {
  return new Map(SCRIPTS.map((script) => [script, createHash('sha1').update(script).digest('hex')]));
}
