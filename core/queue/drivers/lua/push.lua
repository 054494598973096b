-- Stores jobs; one whose id is stored already is left as it is, so that a repeated push changes nothing.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  available    list    "<ms since it is available>:<id>"
-- KEYS[3]  scheduled    zset    id by due time in ms
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, payload, delay in ms, for each job
-- Returns a list of one: 1 where the queue held no job before, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HLEN', KEYS[1])
local was_empty = redis.call('LLEN', KEYS[2]) == 0

local ids = {}
for i = 2, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local known = redis.call('HMGET', KEYS[1], unpack(ids))

-- A call takes longer than all else here, so one stores all of them.
local prefix = string.format('%.0f:', now)
local jobs, available, scheduled, seen = {}, {}, {}, {}
for n, id in ipairs(ids) do
    if not known[n] and not seen[id] then
        seen[id] = true
        jobs[#jobs + 1] = id
        jobs[#jobs + 1] = ARGV[3 * n]
        local delay = tonumber(ARGV[3 * n + 1])
        if delay > 0 then
            scheduled[#scheduled + 1] = now + delay
            scheduled[#scheduled + 1] = id
        else
            available[#available + 1] = prefix .. id
        end
    end
end
if #jobs > 0 then redis.call('HSET', KEYS[1], unpack(jobs)) end
if #available > 0 then redis.call('RPUSH', KEYS[2], unpack(available)) end
if #scheduled > 0 then redis.call('ZADD', KEYS[3], unpack(scheduled)) end

-- A worker only sleeps after it found the line empty: no need to tell of what joins a waiting line. A
-- scheduled job is told of for the stagers, which sleep until the next one known to them is due.
if #scheduled > 0 or (#available > 0 and was_empty) then redis.call('PUBLISH', ARGV[1], '') end
return {held == 0 and 1 or 0}
