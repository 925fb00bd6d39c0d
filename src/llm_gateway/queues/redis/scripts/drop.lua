-- Drops a tenant's wrapped key, and tells whether there was one.
-- ARGV: 5 key
local gone = redis.call('DEL', P .. ARGV[5])
redis.call('SREM', P .. 'kept', ARGV[5])
if gone == 0 then mark() end
return answer(gone)
