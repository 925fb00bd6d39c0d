-- One job: its hash, what is echoed of it, its place among the ready. ARGV: 5 ticket · 6 "1" for payload or result too, "2" for a result
local job, why = load(ARGV[5])
if not job then return answer({why}) end
local rank = job.y == 'r' and redis.call('ZRANK', P .. 'rdy:' .. job.l, job.ticket)
local whole = ARGV[6] == '1' or ARGV[6] == '2' and job.s == 'C'
local content = whole and redis.call('GET', P .. 'c:' .. job.ticket) or echo(job)
return answer({'job', redis.call('HGETALL', P .. 'j:' .. job.ticket), content, rank or -1})
