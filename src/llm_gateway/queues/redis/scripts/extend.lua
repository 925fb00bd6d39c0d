-- Prolongs a lease whose token is the current one. ARGV: 5 ticket · 6 token · 7 lease
if redis.call('HGET', P .. 'j:' .. ARGV[5], 'k') ~= ARGV[6] then return answer(0) end
longest_lease(tonumber(ARGV[7]))
redis.call('ZADD', P .. 'lse', int(now + tonumber(ARGV[7])), ARGV[5])
return answer(1)
