-- Moves the ends of leases; touches nothing else of the jobs.
-- KEYS[1]  executing    zset    id by the end of its lease in ms
-- KEYS[2]  tries        hash    id -> "<tries>:<token>"
-- ARGV[1]  length of the lease from now in ms
-- ARGV[2…] id, token, for each job
-- Returns the ids whose token is not current.
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local ids = {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end

local held = redis.call('HMGET', KEYS[2], unpack(ids))
local mine, leases, stale = {}, {}, {}
for i, id in ipairs(ids) do
    local current = held[i] and string.match(held[i], ':(.+)$')
    if current == ARGV[2 * i + 1] then
        mine[#mine + 1] = id
        leases[#leases + 1] = ends
        leases[#leases + 1] = id
    else
        stale[#stale + 1] = id
    end
end
-- Taken out first: with its memory full, Redis refuses what may grow, but lets a script go on that has written.
if #mine > 0 then
    redis.call('ZREM', KEYS[1], unpack(mine))
    redis.call('ZADD', KEYS[1], unpack(leases))
end
return stale
