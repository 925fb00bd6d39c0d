-- Cancels what has not ended of some tickets, and buries them if asked to. Asked again, it replies the same.
-- ARGV: 5 tenant · 6 "1" to bury · 7 id of this order · 8... tickets. Replies for each: found, cancelled, its content.
local reply = {}
for index = 8, #ARGV do
  local job = load(ARGV[index])
  local told = job and job.op and string.match(job.op, '^(.-)|')
  if job and job.t == ARGV[5] and told == ARGV[7] then
    local ended, had = string.match(job.op, '^.-|(%d)(.*)$')
    reply[#reply + 1] = {1, tonumber(ended), had}
  elseif not job or job.t ~= ARGV[5] or job.b then
    reply[#reply + 1] = {0, 0, ''}
  else
    local ended = live(job)
    local had = 'e' .. ((ended or job.s == 'F') and 'p' or '') .. (job.s == 'C' and 'r' or '')
      .. (job.hc > 0 and 'h' or '')
    if ended then
      remember_lost(job, 'cancelled')
      job.r = nil
      finish(job, 'K')
    end
    if ARGV[6] == '1' then bury(job) end
    redis.call('HSET', P .. 'j:' .. job.ticket, 'op', ARGV[7] .. '|' .. (ended and 1 or 0) .. had)
    reply[#reply + 1] = {1, ended and 1 or 0, had}
  end
end
if ARGV[6] == '1' then nudge() end
commit()
return answer(reply)
