-- Ends one attempt: state, counters, result and event in one step.
-- ARGV: 5 ticket · 6 tenant · 7 token · 8 kind · 9 attempt · 10 result · 11 error · 12 reason · 13 delay
--   14 most attempts · 15 scope of a park · 16 reason for parking the group of a failed job
local job = load(ARGV[5])
if not job or job.b or job.t ~= ARGV[6] then return answer({'FENCED', ''}) end
if job.x == ARGV[7] then
  mark()
  return answer({'REPLAYED', job.s})
end
if job.k ~= ARGV[7] then return answer({'FENCED', job.s}) end

local kind, group = ARGV[8], job.g and sized(job.t, job.g)
local function later() if tonumber(ARGV[13]) > 0 then job.nb = int(now + tonumber(ARGV[13])) end end
job.r, job.nb, job.x = nil, nil, ARGV[7]
remember(job, ARGV[9])
if kind == 'complete' or kind == 'fail' or kind == 'retry' then job.a = job.a + 1 end
if kind == 'retry' and job.a >= tonumber(ARGV[14]) then kind = 'fail' end

if kind == 'complete' then finish(job, 'C', ARGV[10])
elseif kind == 'fail' then
  finish(job, 'F', nil, ARGV[11])
  if ARGV[16] ~= '' and group then hold(job.l, group, ARGV[16]) end
else
  lift(job)
  release_lease(job)
  job.r = ARGV[12]
  later()
  if kind == 'park' then
    if ARGV[15] == 'lane' then redis.call('HSET', lane_key(job), 'pk', job.r) end
    if ARGV[15] == 'group' and group then hold(job.l, group, job.r) end
  end
  place(job, kind == 'park')
  save(job)
end
commit()
return answer({'ACCEPTED', job.s})
