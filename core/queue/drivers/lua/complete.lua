-- Removes finished jobs.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"
-- ARGV     id, token, for each job
-- Returns the ids whose token is not current; nothing of those is touched.
local ids = {}
for i = 1, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end

local held = redis.call('HMGET', KEYS[3], unpack(ids))
local mine, stale = {}, {}
for i, id in ipairs(ids) do
    local current = held[i] and string.match(held[i], ':(.+)$')
    local list = current == ARGV[2 * i] and mine or stale
    list[#list + 1] = id
end
if #mine > 0 then
    redis.call('HDEL', KEYS[1], unpack(mine))
    redis.call('ZREM', KEYS[2], unpack(mine))
    redis.call('HDEL', KEYS[3], unpack(mine))
end
return stale
