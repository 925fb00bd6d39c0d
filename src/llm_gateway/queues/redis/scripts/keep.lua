-- Keeps a tenant's wrapped key, if what is kept, or nothing, is what it is to replace: a dropped key is not brought back.
-- ARGV: 5 key · 6 value · 7 replacing, empty for none
local kept = redis.call('GET', P .. ARGV[5]) or ''
if kept ~= ARGV[7] then
  mark()
  return answer(kept)
end
redis.call('SET', P .. ARGV[5], ARGV[6])
redis.call('SADD', P .. 'kept', ARGV[5])
return answer(ARGV[6])
