-- Removes finished jobs. Begins with turns.lua.
-- KEYS[1…5] see there
-- KEYS[6]  jobs         hash    id -> payload
-- KEYS[7]  executing    zset    id by the end of its lease in ms
-- KEYS[8]  tries        hash    id -> "<tries>:<token>"
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, token, for each job
-- Returns the ids whose token is not current; nothing of those is touched.
local ids = {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end

local held = redis.call('HMGET', KEYS[8], unpack(ids))
local mine, stale = {}, {}
for i, id in ipairs(ids) do
    local current = held[i] and string.match(held[i], ':(.+)$')
    local list = current == ARGV[2 * i + 1] and mine or stale
    list[#list + 1] = id
end
if #mine > 0 then
    redis.call('HDEL', KEYS[6], unpack(mine))
    redis.call('ZREM', KEYS[7], unpack(mine))
    redis.call('HDEL', KEYS[8], unpack(mine))
    hand_on(mine)
end
return stale
