-- Events from a number on, each with its job as it stands: some at once, and where to go on.
-- Replies with the oldest number there is, where to go on, the latest number, and the events.
-- ARGV: 5 first number, empty for the outbox · 6 most · 7 tenant · 8 group, empty for all
local first, most, everybodys = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[5] == ''
if everybodys then
  first = relayed + 1
  mark()
end
local oldest = redis.call('XRANGE', P .. 'ev', '-', '+', 'COUNT', 1)
local reply = {oldest[1] and string.match(oldest[1][1], '^(%d+)') or int(seq + 1), int(first), int(seq)}
if everybodys and not relaying then return answer(reply) end
-- What nobody can read any more must not hold up the outbox: it is passed over until there is something that leaves.
repeat
  local page = redis.call('XRANGE', P .. 'ev', reply[2] .. '-0', '+', 'COUNT', everybodys and most or 2048)
  for _, entry in ipairs(page) do
    if #reply >= most + 3 then break end
    local number, fact = string.match(entry[1], '^(%d+)'), entry[2]
    reply[2] = int(tonumber(number) + 1)
    if everybodys or (fact[16] == ARGV[7] and (ARGV[8] == '' or fact[18] == ARGV[8])) then
      local job = load(fact[2])
      if job and (everybodys or not job.b) then
        local content = fact[6] == 'C' and redis.call('GET', P .. 'c:' .. job.ticket) or echo(job)
        reply[#reply + 1] = {number, fact, redis.call('HGETALL', P .. 'j:' .. job.ticket), content}
      end
    end
  end
until not everybodys or #page == 0 or #reply > 3
return answer(reply)
