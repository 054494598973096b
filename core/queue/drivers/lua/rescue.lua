-- Makes jobs whose lease ran out, and had by a given moment, available again, ahead of the line, oldest first. The
-- try stays counted.
-- KEYS[1]  available    list    "<ms since it is available>:<id>"
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2]  how many at most
-- ARGV[3]  that moment in ms; empty where the present one is meant
-- Returns how many were rescued, and the present moment in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = math.min(now, tonumber(ARGV[3]) or now)
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.0f', before), 'LIMIT', 0, ARGV[2])

for i = #ids, 1, -1 do
    local id = ids[i]
    redis.call('ZREM', KEYS[2], id)
    redis.call('HSET', KEYS[3], id, string.match(redis.call('HGET', KEYS[3], id) or '0:', '^%d+') .. ':')
    redis.call('LPUSH', KEYS[1], string.format('%.0f:', now) .. id)
end
if #ids > 0 then redis.call('PUBLISH', ARGV[1], '') end
return {#ids, now}
