-- Puts failed jobs back by hand, with no tries counted. Each is put back once until its row is deleted. Its failure
-- leaves with it: nobody is to write the row of a job that is back.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  available    list    "<ms since it is available>:<id>"
-- KEYS[3]  returned     hash    id put back by hand whose row of failed_jobs is still to be deleted -> when, in µs
-- KEYS[4]  failed       hash    id -> the failure's record
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, payload, for each job
-- Returns 1 where the queue held no job before, else 0.
local held = redis.call('HLEN', KEYS[1])
local time = redis.call('TIME')
local now = string.format('%.0f:', time[1] * 1000 + math.floor(time[2] / 1000))
local mark = time[1] .. '.' .. time[2]
local count = 0
for i = 2, #ARGV, 2 do
    redis.call('HDEL', KEYS[4], ARGV[i])
    if redis.call('HSETNX', KEYS[3], ARGV[i], mark) == 1 and redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
        redis.call('RPUSH', KEYS[2], now .. ARGV[i])
        count = count + 1
    end
end
if count > 0 then redis.call('PUBLISH', ARGV[1], '') end
return held == 0 and 1 or 0
