-- Lets a lane go: its pause, its park, its groups, and up to a limit of its parked jobs. ARGV: 5 lane · 6 limit
local lane, gone = ARGV[5], 0
redis.call('HSET', P .. 'lane:' .. lane, 'pa', '', 'pk', '')
redis.call('DEL', P .. 'pg:' .. lane)
for _, ticket in ipairs(redis.call('SRANDMEMBER', P .. 'prk:' .. lane, tonumber(ARGV[6]))) do
  local job = load(ticket)
  redis.call('SREM', P .. 'prk:' .. lane, ticket)
  if job and job.s == 'Q' and job.y == 'k' then
    job.r = 'resumed'
    place(job)
    save(job)
  end
  gone = gone + 1
end
commit()
nudge()
return answer(gone)
