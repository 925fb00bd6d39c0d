-- Pins a group's served model if it has none, and replies with the one it has. Asked again, it replies the same.
-- ARGV: 5 tenant and group · 6 lane · 7 served model · 8 how long a pin lives after its use
local pins = P .. 'pin:' .. ARGV[5]
redis.call('HSETNX', pins, ARGV[6], ARGV[7])
redis.call('PEXPIRE', pins, ARGV[8])
return answer(redis.call('HGET', pins, ARGV[6]))
