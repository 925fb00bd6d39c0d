-- Keeps a tenant's wrapped key, if there is none or the one there is to be replaced. ARGV: 5 key · 6 value · 7 replacing
local kept = redis.call('GET', P .. ARGV[5])
if kept and (ARGV[7] == '' or kept ~= ARGV[7]) then
  mark()
  return answer(kept)
end
redis.call('SET', P .. ARGV[5], ARGV[6])
return answer(ARGV[6])
