-- Past a gap of the log: where those jobs of a tenant stand whose latest change lies within it; one page of its jobs.
-- ARGV: 5 tenant · 6 after · 7 before · 8 group, empty for all · 9 first place of the page · 10 last
local reply = {}
for _, ticket in ipairs(redis.call('ZRANGE', P .. 'l:' .. ARGV[5], ARGV[9], ARGV[10])) do
  local job = load(ticket)
  local within = job and not job.b and job.n > tonumber(ARGV[6]) and job.n < tonumber(ARGV[7])
  if within and (ARGV[8] == '' or job.g == ARGV[8]) then
    local content = job.s == 'C' and redis.call('GET', P .. 'c:' .. ticket) or echo(job)
    reply[#reply + 1] = {int(job.n), ticket, redis.call('HGETALL', P .. 'j:' .. ticket), content}
  end
end
return answer(reply)
