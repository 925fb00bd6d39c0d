-- Stores a job, or finds the one that has its key.
-- ARGV: 5 ticket · 6 tenant · 7 key with its tenant · 8 lane · 9 weight · 10 ttl · 11 wait, empty for none
--   12 fingerprint · 13 echo · 14 payload · 15 reason · 16 group · 17 subjects · 18 history · 19 its length
--   20 most jobs · 21 most bytes · 22 worker that adopts it, empty for none · 23 lease · 24 token
--   25 ticket of the dead letter it was made from
local job = {ticket = ARGV[5], t = ARGV[6], key = ARGV[7], l = ARGV[8], w = tonumber(ARGV[9]), v = 0,
  ec = #ARGV[13], z = #ARGV[14], r = ARGV[15], g = ARGV[16] ~= '' and ARGV[16] or nil,
  a = 0, cr = 0, hi = ARGV[18], hc = tonumber(ARGV[19])}
local known = redis.call('GET', P .. 'i:' .. job.key)
-- A job that is gone without a trace, by whatever hand, must not keep its key from being used.
if known and redis.call('EXISTS', P .. 'j:' .. known) == 1 then
  mark()
  return answer({'KNOWN', known})
end
if redis.call('EXISTS', P .. 'j:' .. job.ticket) == 1 then return answer({'TAKEN'}) end
if depth + (relaying and seq - relayed or 0) >= tonumber(ARGV[20]) then return answer({'DEPTH'}) end
if bytes + job.z > tonumber(ARGV[21]) then return answer({'BYTES'}) end

job.e = now + tonumber(ARGV[10])
if ARGV[11] ~= '' then job.nb = int(now + tonumber(ARGV[11])) end
depth, bytes = depth + 1, bytes + job.z
if redis.call('HSETNX', lane_key(job), 'busy', 0) == 1 then redis.call('SADD', P .. 'lanes', job.l) end
redis.call('SET', P .. 'i:' .. job.key, job.ticket)
redis.call('SET', P .. 'c:' .. job.ticket, ARGV[13] .. ARGV[14])
redis.call('ZADD', P .. 'due', int(job.e), job.ticket)
redis.call('ZADD', P .. 'old:' .. job.l, int(now), job.ticket)
redis.call('ZADD', P .. 'l:' .. job.t, int(now), job.ticket)
redis.call('SADD', P .. 'tenants', job.t)
if job.g then redis.call('SADD', P .. 'g:' .. sized(job.t, job.g), job.ticket) end
if ARGV[17] ~= '' then
  for _, subject in ipairs(cjson.decode(ARGV[17])) do
    redis.call('SADD', P .. 'sub:' .. sized(job.t, subject), job.ticket)
  end
end
place(job)
local fields = {'s', 'Q', 'v', '1', 'u', int(now), 'cd', int(now), 'e', int(job.e), 'l', job.l, 't', job.t, 'w', ARGV[9],
  'z', int(job.z), 'ec', int(job.ec), 'fp', ARGV[12], 'y', job.y, 'r', job.r, 'key', job.key}
local function also(name, value)
  if value and value ~= '' then fields[#fields + 1] = name; fields[#fields + 1] = value end
end
also('q', job.q) also('nb', job.nb) also('g', job.g) also('rf', ARGV[25]) also('sb', ARGV[17]) also('hi', job.hi)
if job.hc > 0 then also('hc', ARGV[19]) end
job.v = 1
note(job)
also('n', int(job.n))
redis.call('HSET', P .. 'j:' .. job.ticket, unpack(fields))
if ARGV[22] ~= '' then
  lift(job)
  job.s, job.y, job.k, job.h, job.i = 'P', nil, ARGV[24], now, job.ticket
  redis.call('ZADD', P .. 'lse', int(now + tonumber(ARGV[23])), job.ticket)
  longest_lease(tonumber(ARGV[23]))
  redis.call('HINCRBY', lane_key(job), 'busy', 1)
  save(job, 'o', ARGV[22])
end
commit()
local rank = job.y == 'r' and redis.call('ZRANK', P .. 'rdy:' .. job.l, job.ticket)
return answer({'STORED', int(now), rank or -1})
