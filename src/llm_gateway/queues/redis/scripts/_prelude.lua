-- What every transition shares. A script is this text followed by its own.
-- ARGV: 1 key prefix · 2 now in microseconds, empty outside tests · 3 retention of results · 4 retention of dead letters
-- Lua has no rollback: everything is read and judged before the first write.
local P, now = ARGV[1], tonumber(ARGV[2])
local RETAIN, RETAIN_DEAD = tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local clock = redis.call('TIME')
  -- Older servers forbid writes after TIME unless effects are replicated; from 5.0 on they always are.
  now = clock[1] * 1000000 + clock[2]
end
local LOG_LENGTH, HISTORY = 10000, 32
local FIELDS = {'s', 'v', 'e', 'l', 't', 'w', 'z', 'ec', 'y', 'a', 'cr', 'hc', 'n', 'h',
                'k', 'i', 'x', 'q', 'b', 'r', 'hi', 'g', 'sb', 'key', 'nb', 'op'}
local NUMBERS = {v = true, e = true, w = true, z = true, ec = true, a = true, cr = true, hc = true, n = true, h = true}
local NEEDED = {'s', 'v', 'e', 'l', 'w', 'z', 'ec', 'n', 'key'}

local function int(x) return string.format('%.0f', x) end
local function real(x) return string.format('%.17g', x) end
local function sized(tenant, name) return #tenant .. ':' .. tenant .. ':' .. name end

local counts = redis.call('HMGET', P .. 'cnt', 'depth', 'bytes', 'seq', 'ob', 'relayed', 'nudges', 'longest')
local depth, bytes, seq = tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0)
local relaying, relayed = counts[4] == '1', tonumber(counts[5] or 0)

-- Something changed that no event tells of: whoever waits looks again.
local nudges = tonumber(counts[6] or 0)
local function nudge()
  nudges = redis.call('HINCRBY', P .. 'cnt', 'nudges', 1)
  redis.call('XADD', P .. 'nudge', 'MAXLEN', '~', 64, int(nudges) .. '-0', 'x', 1)
end

local function commit()
  redis.call('HSET', P .. 'cnt', 'depth', int(depth), 'bytes', int(bytes), 'seq', int(seq))
end

-- Waiting for disks and replicas covers what a connection has written. Whoever asks again, perhaps over a new one, is
-- told what was written before: so that the wait covers that too, something is written.
local function mark() redis.call('HINCRBY', P .. 'cnt', 'marks', 1) end

-- Every reply begins with where the shard's events and nudges stand, so that the asker knows what it has seen.
local function answer(body) return {int(seq), int(nudges), body} end

-- A job as it lies in its hash; nil and why when it is not there or not ours.
local function load(ticket)
  local found = redis.pcall('HMGET', P .. 'j:' .. ticket, unpack(FIELDS))
  if found.err then return nil, 'foreign' end
  local job = {ticket = ticket}
  for place, field in ipairs(FIELDS) do
    local value = found[place]
    if value and value ~= '' then
      if NUMBERS[field] then job[field] = tonumber(value) else job[field] = value end
    end
  end
  if not job.s then return nil, redis.call('EXISTS', P .. 'j:' .. ticket) == 1 and 'damaged' or 'none' end
  for _, field in ipairs(NEEDED) do
    if job[field] == nil then return nil, 'damaged' end
  end
  job.t = job.t or ''
  job.a, job.cr, job.hc, job.hi = job.a or 0, job.cr or 0, job.hc or 0, job.hi or ''
  return job
end

local function live(job) return job.s == 'Q' or job.s == 'P' end
local function lane_key(job) return P .. 'lane:' .. job.l end

-- Start-time fair queueing: after those of its flow, or soon when the job comes back.
local function tag(job)
  local virtual = tonumber(redis.call('HGET', lane_key(job), 'V') or 0)
  if job.q then return virtual + 1 / job.w end
  local flows, flow = P .. 'vt:' .. job.l, sized(job.t, int(job.w))
  local last = tonumber(redis.call('ZSCORE', flows, flow) or 0)
  local order = math.max(virtual, last) + 1 / job.w
  redis.call('ZADD', flows, real(order), flow)
  return order
end

-- One transition's event; the number of the latest goes into the job's hash.
local function note(job)
  seq = seq + 1
  job.n = seq
  local entry = {'t', job.ticket, 'v', int(job.v), 's', job.s, 'u', int(now), 'r', job.r or '',
                 'a', int(job.a), 'c', int(job.cr), 'o', job.t, 'g', job.g or ''}
  if relaying then
    redis.call('XADD', P .. 'ev', int(seq) .. '-0', unpack(entry))
  else
    redis.call('XADD', P .. 'ev', 'MAXLEN', '~', LOG_LENGTH, int(seq) .. '-0', unpack(entry))
  end
  -- Whoever looks for work or waits for an end is not woken by claims.
  if job.s ~= 'P' then
    redis.call('XADD', P .. 'wk', 'MAXLEN', '~', LOG_LENGTH, int(seq) .. '-0',
      't', job.ticket, 's', job.s, 'd', job.y == 'd' and int(job.nb - now) or '')
  end
end

-- Takes a live job out of wherever it stands in its lane.
local function lift(job)
  if job.s == 'P' then
    redis.call('ZREM', P .. 'lse', job.ticket)
    redis.call('HINCRBY', lane_key(job), 'busy', -1)
  elseif job.y == 'd' then redis.call('ZREM', P .. 'dly:' .. job.l, job.ticket)
  elseif job.y == 'k' then redis.call('SREM', P .. 'prk:' .. job.l, job.ticket)
  else redis.call('ZREM', P .. 'rdy:' .. job.l, job.ticket) end
end

-- Puts a queued job among those that are ready, delayed or parked.
local function place(job, parked)
  job.s = 'Q'
  if parked then
    job.y = 'k'
    redis.call('SADD', P .. 'prk:' .. job.l, job.ticket)
  elseif (tonumber(job.nb) or 0) > now then
    job.y = 'd'
    redis.call('ZADD', P .. 'dly:' .. job.l, job.nb, job.ticket)
  else
    job.y = 'r'
    redis.call('ZADD', P .. 'rdy:' .. job.l, real(tag(job)), job.ticket)
    job.q = '1'
  end
end

-- Writes what a transition changed, with its version and event.
local function save(job, ...)
  job.v = job.v + 1
  note(job)
  redis.call('HSET', P .. 'j:' .. job.ticket, 's', job.s, 'v', int(job.v), 'u', int(now), 'n', int(job.n),
    'y', job.y or '', 'q', job.q or '', 'r', job.r or '', 'nb', job.nb or '', 'a', int(job.a), 'cr', int(job.cr),
    'hi', job.hi, 'hc', int(job.hc), 'k', job.k or '', 'h', job.h and int(job.h) or '', 'i', job.i or '',
    'x', job.x or '', ...)
end

-- The longest lease that was given tells, after the clock went back, which leases end too late.
local longest = tonumber(counts[7] or 0)
local function longest_lease(length)
  if length > longest then redis.call('HSET', P .. 'cnt', 'longest', int(length)) end
end

local function release_lease(job) job.k, job.h, job.i = nil, nil, nil end

-- Of many attempts the latest are kept, one a line.
local function remember(job, attempt)
  if attempt == '' then return end
  job.hi = job.hi == '' and attempt or job.hi .. '\n' .. attempt
  job.hc = job.hc + 1
  if job.hc > HISTORY then job.hi = string.sub(job.hi, string.find(job.hi, '\n', 1, true) + 1) end
end

-- The attempt that nobody will report, if a call was under way.
local function remember_lost(job, fault)
  if job.s ~= 'P' or not job.h then return end
  remember(job, string.format('["%s-%s",%s,%s,"%s",null,"yes",true]',
    job.ticket, int(job.v), int(job.h), int(now), fault))
end

local function retained(job) return now + (job.s == 'F' and RETAIN_DEAD or RETAIN) end

-- What is echoed on events; it opens a job's content, before the payload or the result.
local function echo(job)
  return job.ec > 0 and redis.call('GETRANGE', P .. 'c:' .. job.ticket, 0, job.ec - 1) or ''
end

-- Ends a job: state, counters, indices, content and event. `result` takes the payload's place.
local function finish(job, state, result, problem)
  lift(job)
  job.s, job.y, job.nb = state, nil, nil
  release_lease(job)
  depth, bytes = depth - 1, bytes - job.z
  redis.call('ZREM', P .. 'old:' .. job.l, job.ticket)
  if state == 'F' then
    redis.call('ZADD', P .. 'dlq:' .. job.l, int(now), job.ticket)
  else
    redis.call('SET', P .. 'c:' .. job.ticket, echo(job) .. (result or ''))
  end
  if relaying then redis.call('ZREM', P .. 'due', job.ticket)
  else redis.call('ZADD', P .. 'due', int(retained(job)), job.ticket) end
  if problem then save(job, 'er', problem) else save(job) end
end

-- Removes what is left of a job: its id and its key.
local function forget(job)
  redis.call('DEL', P .. 'j:' .. job.ticket, P .. 'c:' .. job.ticket, P .. 'i:' .. job.key)
  redis.call('ZREM', P .. 'due', job.ticket)
end

-- Takes a job from its tenant's list; a tenant that has none left is no longer known.
local function unlist(tenant, ticket)
  if redis.call('ZREM', P .. 'l:' .. tenant, ticket) == 1 and redis.call('EXISTS', P .. 'l:' .. tenant) == 0 then
    redis.call('SREM', P .. 'tenants', tenant)
  end
end

-- Holds a group in a lane. What is held without end is looked over by the sweep when even a dead letter would have gone.
local function hold(lane, group, reason)
  redis.call('HSET', P .. 'pg:' .. lane, group, reason)
  redis.call('ZADD', P .. 'held', int(now + math.max(RETAIN, RETAIN_DEAD)), lane .. '|' .. group)
end

-- Removes all content of a job that has ended; what still has to leave keeps its echo, which names whom to tell.
local function bury(job)
  local content, leaving = P .. 'c:' .. job.ticket, relaying and job.n > relayed
  if leaving then redis.call('SET', content, echo(job)) else redis.call('DEL', content) end
  unlist(job.t, job.ticket)
  redis.call('ZREM', P .. 'dlq:' .. job.l, job.ticket)
  if job.g then redis.call('SREM', P .. 'g:' .. sized(job.t, job.g), job.ticket) end
  local listed, subjects = pcall(cjson.decode, job.sb or '[]')
  for _, subject in ipairs(listed and subjects or {}) do
    redis.call('SREM', P .. 'sub:' .. sized(job.t, subject), job.ticket)
  end
  if leaving then redis.call('ZREM', P .. 'due', job.ticket)
  else redis.call('ZADD', P .. 'due', int(job.e + RETAIN), job.ticket) end
  redis.call('HSET', P .. 'j:' .. job.ticket, 'b', '1', 'hi', '', 'hc', '0', 'er', '', 'r', '', 'sb', '')
  return leaving
end

local DAMAGED = '["QueueError","The stored request is damaged.","unknown","damaged",null]'

-- Ends a job whose hash cannot be read as a dead letter that says so; what names neither lane nor key is removed.
local function condemn(ticket)
  local name = P .. 'j:' .. ticket
  local found = redis.pcall('HMGET', name, 'l', 'key', 't', 'v', 'g', 'z', 'ec')
  local held = redis.call('ZREM', P .. 'lse', ticket)
  redis.call('ZREM', P .. 'due', ticket)
  local counted = 0
  for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
    local here = redis.call('ZREM', P .. 'old:' .. lane, ticket)
    if here == 1 and held == 1 then redis.call('HINCRBY', P .. 'lane:' .. lane, 'busy', -1) end
    counted = counted + here
    redis.call('ZREM', P .. 'rdy:' .. lane, ticket)
    redis.call('ZREM', P .. 'dly:' .. lane, ticket)
    redis.call('SREM', P .. 'prk:' .. lane, ticket)
  end
  depth = depth - counted
  local length = redis.pcall('STRLEN', P .. 'c:' .. ticket)
  -- Where the job does not tell how much it held, its content does.
  length = (tonumber(length) or 0) - (tonumber(found[7]) or 0)
  if counted > 0 then bytes = math.max(bytes - (tonumber(found[6]) or length), 0) end
  if found.err or counted == 0 or not found[1] or not found[2] then
    redis.call('DEL', name, P .. 'c:' .. ticket)
    for _, tenant in ipairs(redis.call('SMEMBERS', P .. 'tenants')) do unlist(tenant, ticket) end
    return
  end
  local job = {ticket = ticket, s = 'F', l = found[1], key = found[2], t = found[3] or '', g = found[5],
    v = tonumber(found[4]) or 1, a = 0, cr = 0, hi = '', hc = 0}
  redis.call('HSET', name, 'e', int(now), 'w', '1', 'z', '0', 'ec', '0', 't', job.t)
  redis.call('ZADD', P .. 'dlq:' .. job.l, int(now), ticket)
  if not relaying then redis.call('ZADD', P .. 'due', int(retained(job)), ticket) end
  save(job, 'er', DAMAGED)
end
