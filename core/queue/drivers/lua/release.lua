-- Hands jobs back untried: ahead of the line, in the order given, the try uncounted.
-- KEYS[1]  available    list    "<ms since it is available>:<id>"
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, token, for each job
-- Returns the ids whose token is not current; nothing of those is touched.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stale, released = {}, 0

for i = #ARGV - 1, 2, -2 do
    local id = ARGV[i]
    local count, token = string.match(redis.call('HGET', KEYS[3], id) or '', '^(%d+):(.+)$')
    if token == ARGV[i + 1] then
        redis.call('ZREM', KEYS[2], id)
        if count == '1' then
            redis.call('HDEL', KEYS[3], id)
        else
            redis.call('HSET', KEYS[3], id, string.format('%.0f:', count - 1))
        end
        redis.call('LPUSH', KEYS[1], string.format('%.0f:', now) .. id)
        released = released + 1
    else
        stale[#stale + 1] = id
    end
end
if released > 0 then redis.call('PUBLISH', ARGV[1], '') end
return stale
