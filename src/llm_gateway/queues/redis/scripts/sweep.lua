-- Ends what is over, takes back what lost workers held, forgets what was kept long enough: up to a limit of each.
-- ARGV: 5 limit · 6 most crashes. Time to live goes first: what is over is not handed out again.
local limit, expired, recovered, dead = tonumber(ARGV[5]), 0, 0, 0
local over = redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', int(now), 'LIMIT', 0, limit)
for _, ticket in ipairs(over) do
  local job, why = load(ticket)
  if not job then
    condemn(ticket)
    if why ~= 'none' then dead = dead + 1 end
  elseif live(job) then
    if job.e <= now then
      remember_lost(job, 'deadline')
      job.r = nil
      finish(job, 'X')
      expired = expired + 1
    else
      redis.call('ZADD', P .. 'due', int(job.e), ticket)
    end
  else
    local leaving = false
    if not job.b then
      leaving = bury(job)
      nudge()
    end
    if not leaving and job.e + RETAIN <= now then forget(job) end
  end
end
-- No lease ends later than the longest from now: if one does, the clock went back, and its worker may be gone.
local latest = int(now + longest)
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', P .. 'lse', '(' .. latest, '+inf', 'LIMIT', 0, limit)) do
  redis.call('ZADD', P .. 'lse', latest, ticket)
end
local lapsed = redis.call('ZRANGEBYSCORE', P .. 'lse', '-inf', int(now), 'LIMIT', 0, limit)
for _, ticket in ipairs(lapsed) do
  local job, why = load(ticket)
  if not job then
    condemn(ticket)
    if why ~= 'none' then dead = dead + 1 end
  elseif job.s ~= 'P' then redis.call('ZREM', P .. 'lse', ticket)
  else
    remember_lost(job, 'worker_lost')
    job.cr, job.nb = job.cr + 1, nil
    if job.cr >= tonumber(ARGV[6]) then
      finish(job, 'F', nil, '["TicketFailed","The workers that held it were lost ' .. int(job.cr)
        .. ' times.","worker_lost","worker_lost",null]')
      dead = dead + 1
    else
      lift(job)
      release_lease(job)
      job.r = 'worker_lost'
      place(job)
      save(job)
      recovered = recovered + 1
    end
  end
end
-- A group is held for jobs that are still to come too, but not when the last that was known of it is forgotten.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'held', '-inf', int(now), 'LIMIT', 0, limit)) do
  local lane, group = string.match(name, '^([^|]*)|(.*)$')
  local reason = redis.call('HGET', P .. 'pg:' .. lane, group)
  if reason and redis.call('EXISTS', P .. 'g:' .. group) == 1 then hold(lane, group, reason)
  else
    redis.call('HDEL', P .. 'pg:' .. lane, group)
    redis.call('ZREM', P .. 'held', name)
  end
end
-- Claims forget the flows that they have passed. Where jobs only expire or are cancelled nobody passes: with the last
-- of a lane its flows go. Lanes themselves stay: there are no more than models.
for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
  if redis.call('EXISTS', P .. 'old:' .. lane) == 0 then redis.call('DEL', P .. 'vt:' .. lane) end
end
commit()
return answer({expired, recovered, dead, (#over == limit or #lapsed == limit) and 1 or 0})
