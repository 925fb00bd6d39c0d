-- The counts of the shard and of its lanes. What has become ready meanwhile is promoted first, some at once.
local reply = {int(now), int(depth), int(bytes), relaying and int(seq - relayed) or '0', ''}
for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', P .. 'dly:' .. lane, '-inf', int(now), 'LIMIT', 0, 256)) do
    local job = load(ticket)
    if job and job.y == 'd' then
      redis.call('ZREM', P .. 'dly:' .. lane, ticket)
      place(job)
      redis.call('HSET', P .. 'j:' .. ticket, 'y', job.y, 'q', job.q)
    end
  end
  local row = redis.call('HMGET', P .. 'lane:' .. lane, 'busy', 'ci', 'nb', 'mx', 'pa', 'pk', 'hb')
  local oldest = redis.call('ZRANGE', P .. 'old:' .. lane, 0, 0, 'WITHSCORES')
  local soon = redis.call('ZRANGE', P .. 'dly:' .. lane, 0, 0, 'WITHSCORES')
  reply[#reply + 1] = {lane, redis.call('ZCARD', P .. 'rdy:' .. lane), redis.call('ZCARD', P .. 'dly:' .. lane),
    row[1] or '0', redis.call('SCARD', P .. 'prk:' .. lane), redis.call('ZCARD', P .. 'dlq:' .. lane),
    oldest[2] or '', row[2] or '', row[3] or '', row[4] or '', row[5] or '', row[6] or '', row[7] or '', soon[2] or ''}
end
if relaying then
  local first = redis.call('XRANGE', P .. 'ev', int(relayed + 1) .. '-0', '+', 'COUNT', 1)
  if first[1] then reply[5] = first[1][2][8] end
end
return answer(reply)
