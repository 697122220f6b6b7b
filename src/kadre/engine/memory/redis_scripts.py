"""What the Redis journal keeps under which keys, and the scripts that alone write them.

A script is one round trip, and nothing else happens while it runs: what it looks at is so when it writes. Its first
write is one that a server whose memory is full refuses, so that none is ever half done. Keys, each after the prefix:

    run:RUN             hash   its row: FIELDS               events:RUN       list   its events' lines, in order
    session:A|S         hash   agent, session, caller, runs, created, title
    runs-of:A|S         list   its runs, in order            open:A|S         zset   those that have not ended, by order
    runs, open          zsets of ages (CREATED:RUN) in the order of text: of all runs, of the open ones
    agent:A, caller:C, named:S     the same of an agent's, of a caller's, and of those of sessions of that name
    sessions, sessions:A, sessions-by:C   zsets of A|S by when they were used last: all, an agent's, a caller's
    blob:DIGEST         string; one that no event names goes by itself
    uses:DIGEST         set    runs that name it             blobs-of:RUN     set    what it names
    leases              zset   owners by when their lease runs out, 0: given up
    owned:OWNER         zset   its open runs, by creation    version          string

CREATED, and all that is by time, is in microseconds; leases are in milliseconds of the server's own clock.
"""

from __future__ import annotations

from kadre.engine.memory.conversation import SAID_LINES
from kadre.engine.memory.redis_link import Script

FIELDS = (
    "run", "session", "agent", "status", "ord", "last", "epoch", "caller", "parent", "created", "updated", "prompt",
    "completion", "total", "owner",
)  # fmt: skip
NEW_LEASE = 15_000
"""Milliseconds that an owner is taken to live whom the server has not heard of: it has forgotten, and will hear."""
LONG_GONE = 3_600_000
HISTORY_RUNS = 20
"""Runs of a session whose events are read in one go: that of most sessions is one page."""
HISTORY_BYTES = 1 << 20
"""Of events that are read in one go; HISTORY_LINES more at most, which are 2 MiB where each is as large as may be."""
HISTORY_LINES = 32

# P: what keys begin with, C: what channels do.
_COMMON = f"""
local P, C = KEYS[1], KEYS[2]
local call = redis.call
local FIELDS = {{{", ".join(f"'{field}'" for field in FIELDS)}}}
local OPEN = {{queued = true, running = true, waiting = true}}
local function row(run)
  local found = call('HMGET', P..'run:'..run, unpack(FIELDS))
  return found[1] and found
end
local function age(r) return r[10]..':'..r[1] end
local function now()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function keep(run, from)
  for i = from, #ARGV, 500 do
    call('RPUSH', P..'events:'..run, unpack(ARGV, i, math.min(i + 499, #ARGV)))
  end
end
local function use(run, from, count)
  for i = from, from + count - 1 do
    call('SADD', P..'uses:'..ARGV[i], run)
    call('SADD', P..'blobs-of:'..run, ARGV[i])
    call('PERSIST', P..'blob:'..ARGV[i])
  end
end
-- Of what the events from there on name, each is there: one that the server has thrown away would be missed for ever.
local function lost(from, count)
  for i = from, from + count - 1 do
    if call('EXISTS', P..'blob:'..ARGV[i]) == 0 then return redis.error_reply('LOST '..ARGV[i]) end
  end
end
local function indices(r) return {{'runs', 'agent:'..r[3], 'caller:'..r[8], 'named:'..r[2]}} end
local function used(r, s, updated)
  call('ZADD', P..'sessions', updated, s)
  call('ZADD', P..'sessions:'..r[3], updated, s)
  call('ZADD', P..'sessions-by:'..r[8], updated, s)
end
local function own(owner, r)
  call('ZADD', P..'owned:'..owner, r[10], r[1])
  call('ZADD', P..'leases', 'NX', string.format('%.0f', now() + {NEW_LEASE}), owner)
end
"""

CREATE = Script.of(
    _COMMON
    + """
local seen, run, session, agent, status, last, caller, parent, created, updated, prompt, completion, total, owner,
  blobs = unpack(ARGV, 1, 15)
local known = row(run)
if known then
  return {'known', known, call('ZCOUNT', P..'open:'..known[3]..'|'..known[2], '-inf', '('..known[5])}
end
local s = agent..'|'..session
local about = call('HMGET', P..'session:'..s, 'caller', 'runs')
local runs = about[2] or '0'
local open = call('ZRANGE', P..'open:'..s, 0, -1)
if seen ~= '' or #open > 0 or (about[1] and about[1] ~= caller) then
  local now_seen, rows = runs..' '..(about[1] or ''), {}
  for _, id in ipairs(open) do
    local r = row(id)
    if id == run then return {'torn'} end
    if r then
      now_seen = now_seen..' '..id..'='..r[4]
      rows[#rows + 1] = r
    end
  end
  now_seen = redis.sha1hex(now_seen)
  if now_seen ~= seen then return {'look', now_seen, about[1] or caller, runs, rows} end
end
blobs = tonumber(blobs)
local missing = lost(16, blobs)
if missing then return missing end
local ord = string.format('%d', tonumber(runs) + 1)
call('HSET', P..'run:'..run, 'run', run, 'session', session, 'agent', agent, 'status', status, 'ord', ord, 'last', last,
  'epoch', '1', 'caller', caller, 'parent', parent, 'created', created, 'updated', updated, 'prompt', prompt,
  'completion', completion, 'total', total, 'owner', owner)
if about[2] then
  call('HSET', P..'session:'..s, 'runs', ord)
else
  call('HSET', P..'session:'..s, 'agent', agent, 'session', session, 'caller', caller, 'runs', ord, 'created', created)
end
keep(run, 16 + blobs)
use(run, 16, blobs)
local r = row(run)
call('RPUSH', P..'runs-of:'..s, run)
for _, index in ipairs(indices(r)) do call('ZADD', P..index, 0, age(r)) end
used(r, s, updated)
if OPEN[status] then
  call('ZADD', P..'open:'..s, ord, run)
  call('ZADD', P..'open', 0, age(r))
  own(owner, r)
end
return {'added', ord}
"""
)

APPEND = Script.of(
    _COMMON
    + """
local run, expected, epoch, last, status, updated, prompt, completion, total, ends, again, blobs = unpack(ARGV, 1, 12)
blobs = tonumber(blobs)
local lines = 13 + blobs
local r = row(run)
if not r then return {'no'} end
local s = r[3]..'|'..r[2]
if r[6] ~= expected or r[7] ~= epoch or not OPEN[r[4]] then
  if again == '1' then
    local kept = call('LRANGE', P..'events:'..run, expected, tonumber(expected) + #ARGV - lines)
    local same = #kept == #ARGV - lines + 1
    for i, line in ipairs(kept) do same = same and line == ARGV[lines + i - 1] end
    if same then return {'yes', ''} end
  end
  return {'no', r}
end
local missing = lost(13, blobs)
if missing then return missing end
call('HSET', P..'run:'..run, 'last', last, 'updated', updated, 'status', status == '' and r[4] or status)
for i, more in ipairs({prompt, completion, total}) do
  if more ~= '0' then call('HINCRBY', P..'run:'..run, FIELDS[11 + i], more) end
end
keep(run, lines)
use(run, 13, blobs)
if call('HGET', P..'session:'..s, 'runs') == r[5] then used(r, s, updated) end
if ends ~= '1' then return {'yes', ''} end
call('ZREM', P..'open:'..s, run)
call('ZREM', P..'open', age(r))
call('ZREM', P..'owned:'..r[15], run)
local after = call('ZRANGE', P..'open:'..s, 0, 0)[1]
if after then
  call('PUBLISH', C..'turns', run)
  call('PUBLISH', C..'turns', after)
end
return {'yes', after or ''}
"""
)

CLAIM = Script.of(
    _COMMON
    + """
local run, owner, epoch, last = unpack(ARGV)
local r = row(run)
if not r then return {'no'} end
if not OPEN[r[4]] or (epoch ~= '' and (r[7] ~= epoch or r[6] ~= last)) then return {'no', r} end
call('HSET', P..'run:'..run, 'owner', owner, 'epoch', string.format('%d', tonumber(r[7]) + 1))
call('ZREM', P..'owned:'..r[15], run)
own(owner, r)
call('PUBLISH', C..'claims', run)
return {'yes', row(run)}
"""
)

# A queued run whose turn it is, is running from then on.
TURN = Script.of(
    _COMMON
    + """
local r = row(ARGV[1])
if not r then return {} end
local blocked = call('ZCOUNT', P..'open:'..r[3]..'|'..r[2], '-inf', '('..r[5])
if r[4] == 'queued' and blocked == 0 then
  call('HSET', P..'run:'..r[1], 'status', 'running')
  r[4] = 'running'
end
return {r[4], blocked}
"""
)

RUN = Script.of(_COMMON + "return row(ARGV[1])")

# Some of the runs of an index that are as wanted, from an age on downwards, and where to go on: '' is the end.
RUNS = Script.of(
    _COMMON
    + """
local index, from, limit, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local ages = call('ZRANGE', P..index, from, '-', 'BYLEX', 'REV', 'LIMIT', 0, most)
local rows = {}
for _, at in ipairs(ages) do
  local r = row(string.sub(at, 19))
  local wanted = r
  for i = 5, #ARGV, 2 do wanted = wanted and r[tonumber(ARGV[i])] == ARGV[i + 1] end
  if wanted then rows[#rows + 1] = r end
  if #rows == limit then return {'('..at, rows} end
end
return {#ages == most and '('..ages[most] or '', rows}
"""
)

# Some sessions from a place on, the latest used first: each a row, or '' for one that is gone. Without a place, that.
SESSIONS = Script.of(
    _COMMON
    + """
local rows = {}
local places = ARGV[2] == '' and {ARGV[1]} or call('ZRANGE', P..ARGV[1], ARGV[2], ARGV[3], 'REV')
for _, s in ipairs(places) do
  local r = call('HMGET', P..'session:'..s, 'session', 'agent', 'caller', 'runs', 'created', 'title')
  local latest = call('LINDEX', P..'runs-of:'..s, -1)
  local updated = latest and call('HGET', P..'run:'..latest, 'updated')
  if updated then
    r[7] = updated
    rows[#rows + 1] = r
  else
    rows[#rows + 1] = ''
  end
end
return rows
"""
)

# What was said in some of a session's ended runs, the latest first: from the run at that place of its list downwards,
# and of that run from that event on. With each page: the session's first run, another's where it was begun anew, and
# where to go on. A page ends where enough was looked at: the server does nothing else meanwhile, and has it in memory.
HISTORY = Script.of(
    _COMMON
    + f"local RUNS, BYTES, LINES = {HISTORY_RUNS}, {HISTORY_BYTES}, {HISTORY_LINES}\n"
    + f"local SAID = {{{', '.join(repr(start.decode()) for start in SAID_LINES)}}}"
    + """
local s, at, from, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local of = P..'runs-of:'..s
at = math.min(at, call('LLEN', of) - 1)
local begun, first = call('LINDEX', of, 0) or '', math.max(0, at - RUNS + 1)
local runs, said, bytes = at < 0 and {} or call('LRANGE', of, first, at), {}, 0
for i = #runs, 1, -1 do
  local place, status = first + i - 1, call('HGET', P..'run:'..runs[i], 'status')
  if #said == limit or bytes >= BYTES then return {begun, place, 0, unpack(said)} end
  if status and not OPEN[status] then
    local kept, lines = {}, nil
    said[#said + 1] = kept
    repeat
      if bytes >= BYTES then return {begun, place, from, unpack(said)} end
      lines = call('LRANGE', P..'events:'..runs[i], from, from + LINES - 1)
      from = from + #lines
      for _, line in ipairs(lines) do
        bytes = bytes + #line
        for _, start in ipairs(SAID) do
          if string.sub(line, 1, #start) == start then kept[#kept + 1] = line end
        end
      end
    until #lines < LINES
  end
  from = 0
end
return {begun, first - 1, 0, unpack(said)}
"""
)

PUT_BLOB = Script.of(
    _COMMON
    + """
local digest, data, grace = unpack(ARGV)
local uses, blob = P..'uses:'..digest, P..'blob:'..digest
if call('EXISTS', uses, blob) < 2 then call('SET', blob, data, 'PX', grace) end
if call('EXISTS', uses) == 1 then call('PERSIST', blob) end
"""
)

_FORGETTING = (
    _COMMON
    + """
local runs = 0
local function forget(agent, s, grace)
  for _, run in ipairs(call('LRANGE', P..'runs-of:'..s, 0, -1)) do
    local r = row(run)
    if r then
      for _, index in ipairs(indices(r)) do call('ZREM', P..index, age(r)) end
      call('ZREM', P..'sessions-by:'..r[8], s)
    end
    for _, digest in ipairs(call('SMEMBERS', P..'blobs-of:'..run)) do
      call('SREM', P..'uses:'..digest, run)
      if call('EXISTS', P..'uses:'..digest) == 0 then call('PEXPIRE', P..'blob:'..digest, grace) end
    end
    call('UNLINK', P..'run:'..run, P..'events:'..run, P..'blobs-of:'..run)
    runs = runs + 1
  end
  call('ZREM', P..'sessions', s)
  call('ZREM', P..'sessions:'..agent, s)
  call('UNLINK', P..'session:'..s, P..'runs-of:'..s)
end
"""
)

# Forget some of the agent's sessions that rest since before that moment; returns how many. Of runs not many more than
# so many at once: the server does nothing else meanwhile.
FORGET = Script.of(
    _FORGETTING
    + """
local agent, before, most, grace = unpack(ARGV)
local count, skipped = 0, 0
while count < tonumber(most) and runs < 1000 do
  local old = call('ZRANGEBYSCORE', P..'sessions:'..agent, '-inf', '('..before, 'LIMIT', skipped, 20)
  if #old == 0 then break end
  for _, s in ipairs(old) do
    if call('EXISTS', P..'open:'..s) == 1 then
      skipped = skipped + 1
    else
      forget(agent, s, grace)
      count = count + 1
    end
  end
end
return count
"""
)

# Forget that session: 'none' where there is none, 'busy' where a run of it has not ended.
FORGET_ONE = Script.of(
    _FORGETTING
    + """
local agent, session, grace = unpack(ARGV)
local s = agent..'|'..session
if call('EXISTS', P..'session:'..s) == 0 then return 'none' end
if call('EXISTS', P..'open:'..s) == 1 then return 'busy' end
forget(agent, s, grace)
return 'gone'
"""
)

RENAME = Script.of(
    _COMMON
    + """
local s = P..'session:'..ARGV[1]..'|'..ARGV[2]
if call('EXISTS', s) == 0 then return 0 end
call('HSET', s, 'title', ARGV[3])
return 1
"""
)

ENTER = Script.of(
    _COMMON
    + f"""
for _, owner in ipairs(call('ZRANGEBYSCORE', P..'leases', '-inf', string.format('%.0f', now() - {LONG_GONE}))) do
  if call('EXISTS', P..'owned:'..owner) == 0 then call('ZREM', P..'leases', owner) end
end
"""
)

RENEW = Script.of(
    _COMMON
    + """
local till = string.format('%.0f', now() + tonumber(ARGV[2]))
call('ZADD', P..'leases', till, ARGV[1])
return till
"""
)

LEAVE = Script.of(
    _COMMON
    + """
call('ZADD', P..'leases', 0, ARGV[1])
call('PUBLISH', C..'claims', '')
"""
)

HELD = Script.of(
    _COMMON
    + """
local rows = {}
for _, run in ipairs(call('ZRANGE', P..'owned:'..ARGV[1], 0, -1)) do rows[#rows + 1] = row(run) or nil end
return rows
"""
)

# Of a lease that ran out, only who has just renewed its own by the server's clock too, and not since it asked: a server
# that stood still until now has let the others' run out while it did, and one whose clock was set has moved them all.
ABANDONED = Script.of(
    _COMMON
    + """
local owner, till, lease, far, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local agents = {}
for i = 6, #ARGV do agents[ARGV[i]] = true end
local time, left = now(), nil
if till ~= '' and tonumber(call('ZSCORE', P..'leases', owner) or 0) == tonumber(till) then
  left = tonumber(till) - time
end
local steady = left and left > lease / 2 and left <= lease
local rows = {}
local function take(leases)
  for i = 1, #leases, 2 do
    if leases[i] ~= owner and (tonumber(leases[i + 1]) == 0 or steady) then
      for _, run in ipairs(call('ZRANGE', P..'owned:'..leases[i], 0, -1)) do
        if #rows == most then return end
        local r = row(run)
        if r and agents[r[3]] then rows[#rows + 1] = r end
      end
    end
  end
end
take(call('ZRANGEBYSCORE', P..'leases', '-inf', '('..string.format('%.0f', time), 'WITHSCORES'))
take(call('ZRANGEBYSCORE', P..'leases', '('..string.format('%.0f', time + far), '+inf', 'WITHSCORES'))
return rows
"""
)

# The version that the journal has, which is that one where it has none yet.
VERSION = Script.of(_COMMON + "call('SETNX', P..'version', ARGV[1]) return call('GET', P..'version')")

# Version 1 had no lists of a caller's: put some runs, and the sessions they are of, into theirs, from an age upwards;
# returns where to go on; at the end, '', the journal is of version 2. Done twice it is as good.
TO_2 = Script.of(
    _COMMON
    + """
local from, most = ARGV[1], tonumber(ARGV[2])
local ages = call('ZRANGE', P..'runs', from, '+', 'BYLEX', 'LIMIT', 0, most)
for _, at in ipairs(ages) do
  local r = row(string.sub(at, 19))
  if r then
    local s = r[3]..'|'..r[2]
    local updated = call('ZSCORE', P..'sessions', s)
    call('ZADD', P..'caller:'..r[8], 0, at)
    if updated then call('ZADD', P..'sessions-by:'..r[8], updated, s) end
  end
end
if #ages == most then return '('..ages[most] end
call('SET', P..'version', 2)
return ''
"""
)
