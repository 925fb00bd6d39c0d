-- The right to relay, and the acknowledgement. ARGV: 5 what: lead | yield | ack | close · 6 token · 7 lease, or the number
local held = redis.call('HMGET', P .. 'cnt', 'rl', 're', 'rw')
local ends, length = tonumber(held[2] or 0), tonumber(held[3] or 0)
-- A lead that ends later than it is long was taken before the clock went back, and its relay may be gone.
local leading = ends > now and ends <= now + length
local mine = leading and held[1] == ARGV[6]
if ARGV[5] == 'lead' then
  if leading and not mine then return answer(0) end
  redis.call('HSET', P .. 'cnt', 'rl', ARGV[6], 're', int(now + tonumber(ARGV[7])), 'rw', ARGV[7])
  return answer(1)
end
if not mine then return answer(0) end
if ARGV[5] == 'yield' then
  redis.call('HSET', P .. 'cnt', 'rl', '', 're', '0')
  return answer(1)
end
if ARGV[5] == 'close' then
  if relayed < seq then return answer(0) end
  redis.call('HSET', P .. 'cnt', 'ob', '0')
  return answer(1)
end
local upto = math.min(tonumber(ARGV[7]), seq)
for _, entry in ipairs(redis.call('XRANGE', P .. 'ev', int(relayed + 1) .. '-0', int(upto) .. '-0')) do
  local job = load(entry[2][2])
  if job and job.n <= upto and not live(job) then
    if job.b then
      redis.call('DEL', P .. 'c:' .. job.ticket)
      redis.call('ZADD', P .. 'due', int(job.e + RETAIN), job.ticket)
    else
      redis.call('ZADD', P .. 'due', int(retained(job)), job.ticket)
    end
  end
end
if upto > relayed then
  redis.call('HSET', P .. 'cnt', 'relayed', int(upto))
  local gone = math.min(upto + 1, seq - LOG_LENGTH)
  if gone > 0 then redis.call('XTRIM', P .. 'ev', 'MINID', '~', int(gone) .. '-0') end
end
return answer(1)
