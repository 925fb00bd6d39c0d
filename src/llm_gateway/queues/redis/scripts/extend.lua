-- Prolongs a lease whose token is the current one. ARGV: 5 ticket · 6 token · 7 lease
local held = redis.call('HMGET', P .. 'j:' .. ARGV[5], 's', 'k')
if held[1] ~= 'P' or held[2] ~= ARGV[6] then return answer(0) end
longest_lease(tonumber(ARGV[7]))
redis.call('ZADD', P .. 'lse', int(now + tonumber(ARGV[7])), ARGV[5])
return answer(1)
