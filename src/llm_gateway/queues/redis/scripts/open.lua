-- Notes that an outbox is wanted. Once written, it is written by every process until an operator says otherwise.
-- ARGV: 5 "1" for an outbox
if ARGV[5] == '1' and not relaying then
  redis.call('HSET', P .. 'cnt', 'ob', '1', 'relayed', int(seq))
end
return answer(1)
