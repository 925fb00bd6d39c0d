-- Mirrors a circuit, pauses a lane, holds a group, or shows a heartbeat.
-- ARGV: 5 lane · 6 what: circuit | pause | park | limit | group | beat · 7 circuit, limit or group · 8 delay of the gate, or why it is held
local row = P .. 'lane:' .. ARGV[5]
if redis.call('HSETNX', row, 'busy', 0) == 1 then redis.call('SADD', P .. 'lanes', ARGV[5]) end
if ARGV[6] == 'beat' then
  redis.call('HSET', row, 'hb', int(now))
  return answer(1)
end
if ARGV[6] == 'pause' then redis.call('HSET', row, 'pa', '1')
elseif ARGV[6] == 'park' then redis.call('HSET', row, 'pk', ARGV[8])
elseif ARGV[6] == 'limit' then
  redis.call('HSET', row, 'mx', ARGV[7])
  nudge()
elseif ARGV[6] == 'group' then hold(ARGV[5], ARGV[7], ARGV[8])
else
  redis.call('HSET', row, 'ci', ARGV[7], 'nb', ARGV[8] ~= '' and int(now + tonumber(ARGV[8])) or '', 'nw', ARGV[8])
  nudge()
end
return answer(1)
