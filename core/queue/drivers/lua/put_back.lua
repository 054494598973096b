-- Puts failed jobs back by hand, with no tries counted. Each is put back once until its row is deleted. Its failure
-- leaves with it: nobody is to write the row of a job that is back. Begins with turns.lua.
-- KEYS[1…5] see there
-- KEYS[6]  jobs         hash    id -> payload
-- KEYS[7]  returned     hash    id put back by hand whose row of failed_jobs is still to be deleted -> when, in µs
-- KEYS[8]  failed       hash    id -> the failure's record
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, payload, ordering key or '', for each job
-- Returns a list of one: 1 where the queue held no job before, else 0.
local held = redis.call('HLEN', KEYS[6])
local now = milliseconds()
local time = redis.call('TIME')
local mark = time[1] .. '.' .. time[2]
for i = 2, #ARGV, 3 do
    local id, payload, key = unpack(ARGV, i, i + 2)
    redis.call('HDEL', KEYS[8], id)
    if redis.call('HSETNX', KEYS[7], id, mark) == 1 and redis.call('HSETNX', KEYS[6], id, payload) == 1 then
        if key == '' or has_turn(id, key, now) then let_in(id, now, now) end
    end
end
tell()
return {held == 0 and 1 or 0}
