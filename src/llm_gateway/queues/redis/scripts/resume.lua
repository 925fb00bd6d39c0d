-- Lets a lane go: what was parked for a reason, or everything, its pause too; of the jobs a page at a time.
-- ARGV: 5 lane · 6 reason, empty for any · 7 cursor of the page · 8 about how many. Replies with the next cursor.
local lane, reason = ARGV[5], ARGV[6]
local function meant(why) return reason == '' or why == reason end
if reason == '' then redis.call('HDEL', P .. 'lane:' .. lane, 'pa') end
if meant(redis.call('HGET', P .. 'lane:' .. lane, 'pk')) then redis.call('HDEL', P .. 'lane:' .. lane, 'pk') end
local groups = redis.call('HGETALL', P .. 'pg:' .. lane)
for index = 1, #groups, 2 do
  if meant(groups[index + 1]) then redis.call('HDEL', P .. 'pg:' .. lane, groups[index]) end
end
local page = redis.call('SSCAN', P .. 'prk:' .. lane, ARGV[7], 'COUNT', ARGV[8])
for _, ticket in ipairs(page[2]) do
  local job = load(ticket)
  if not job or job.y ~= 'k' then
    redis.call('SREM', P .. 'prk:' .. lane, ticket)
  elseif meant(job.r) then
    redis.call('SREM', P .. 'prk:' .. lane, ticket)
    job.r = 'resumed'
    place(job)
    save(job)
  end
end
commit()
nudge()
return answer(page[1])
