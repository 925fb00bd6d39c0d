-- Takes up to `count` jobs under lease, in fair order, as far as the gate of the lane lets them through.
-- ARGV: 5 lane · 6 count · 7 lease · 8 worker · 9 claim id · 10 how long the claim id is known
--   11 "1" to note that nothing was found, where other shards are asked too · 12... a token for each
-- Replies how many this claim has taken here, those that have ended since too, then the jobs.
local lane, count, lease = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local claims, row = P .. 'clm:' .. ARGV[9], P .. 'lane:' .. ARGV[5]
local reply, noted = {0}, ''
local function give(job, until_)
  reply[#reply + 1] = job.ticket
  reply[#reply + 1] = job.k
  reply[#reply + 1] = until_
  reply[#reply + 1] = redis.call('HGETALL', P .. 'j:' .. job.ticket)
  reply[#reply + 1] = redis.call('GET', P .. 'c:' .. job.ticket) or ''
end

-- The reply to this claim was lost: the same jobs, as far as their leases hold.
local taken = redis.call('LRANGE', claims, 0, -1)
if #taken > 0 then
  for _, ticket in ipairs(taken) do
    if ticket ~= noted then reply[1] = reply[1] + 1 end
    local job, ends = load(ticket), redis.call('ZSCORE', P .. 'lse', ticket)
    if job and job.i == ARGV[9] and tonumber(ends) > now then give(job, ends) end
  end
  return answer(reply)
end

local gate = redis.call('HMGET', row, 'ci', 'nb', 'mx', 'pa', 'pk', 'busy', 'nw')
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', P .. 'dly:' .. lane, '-inf', int(now), 'LIMIT', 0, 256)) do
  redis.call('ZREM', P .. 'dly:' .. lane, ticket)
  local job = load(ticket)
  if job and job.y == 'd' then
    place(job)
    redis.call('HSET', P .. 'j:' .. ticket, 'y', job.y, 'q', job.q)
  elseif not job then
    redis.call('ZADD', P .. 'due', 0, ticket)
  end
end
local before = gate[2] and gate[2] ~= '' and tonumber(gate[2])
-- Shut for longer than it was to be, the gate was shut before the clock went back.
if before and before > now + (tonumber(gate[7]) or 0) then before = now end
local shut = gate[4] == '1' or (gate[5] and gate[5] ~= '') or (gate[1] == 'open' and not before)
-- A circuit that opened for a time does not shut the gate for ever: who opened it may be gone.
local function nothing()
  if ARGV[11] ~= '1' then return end
  redis.call('RPUSH', claims, noted)
  redis.call('PEXPIRE', claims, ARGV[10])
end
if shut or (before and before > now) then
  nothing()
  return answer(reply)
end
if gate[3] and gate[3] ~= '' then count = math.min(count, tonumber(gate[3]) - tonumber(gate[6])) end

local leases, given, passes, virtual = {}, 0, 0, nil
while given < count and passes < 64 do
  passes = passes + 1
  local popped = redis.call('ZPOPMIN', P .. 'rdy:' .. lane, count - given)
  if #popped == 0 then break end
  for index = 1, #popped, 2 do
    local ticket = popped[index]
    local job = load(ticket)
    local parked = job and job.g and redis.call('HGET', P .. 'pg:' .. lane, sized(job.t, job.g))
    if not job then
      -- Found by the sweep, which ends it; here it must not be met again.
      redis.call('ZADD', P .. 'due', 0, ticket)
    elseif job.y ~= 'r' then
      -- It stands elsewhere.
    elseif job.e <= now then
      job.r = nil
      finish(job, 'X')
    elseif parked then
      job.r = parked
      place(job, true)
      save(job)
    else
      given = given + 1
      virtual = popped[index + 1]
      job.s, job.y, job.k, job.h, job.i, job.r, job.nb = 'P', nil, ARGV[11 + given], now, ARGV[9], nil, nil
      save(job, 'o', ARGV[8])
      leases[#leases + 1] = int(now + lease)
      leases[#leases + 1] = ticket
      give(job, int(now + lease))
    end
  end
end
if given == 0 then nothing()
else
  reply[1] = given
  redis.call('ZADD', P .. 'lse', unpack(leases))
  redis.call('HINCRBY', row, 'busy', given)
  local tickets = {}
  for index = 2, #leases, 2 do tickets[#tickets + 1] = leases[index] end
  redis.call('RPUSH', claims, unpack(tickets))
  redis.call('PEXPIRE', claims, ARGV[10])
  longest_lease(lease)
  -- Nobody is placed before what was given out last, so this goes forward only.
  redis.call('HSET', row, 'V', virtual)
  redis.call('ZREMRANGEBYSCORE', P .. 'vt:' .. lane, '-inf', virtual)
end
commit()
return answer(reply)
