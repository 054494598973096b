-- Hands on turns whose job is gone without doing so, as it is where a worker of an earlier version has ended it. Looks
-- at some of the jobs with an ordering key. Begins with turns.lua.
-- KEYS[1…5] see there
-- KEYS[6]  jobs         hash    id -> payload
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2]  where to look on: what the last look returned, or 0
-- ARGV[3]  about how many to look at
-- Returns where the next look is to go on.
local reply = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local gone = {}
for i = 1, #reply[2], 2 do
    if redis.call('HEXISTS', KEYS[6], reply[2][i]) == 0 then gone[#gone + 1] = reply[2][i] end
end
hand_on(gone)
return reply[1]
