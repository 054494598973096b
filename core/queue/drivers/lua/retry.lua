-- Ends tries: each job is due again after its delay.
-- KEYS[1]  retryable    zset    id by due time in ms
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"
-- ARGV     id, token, delay in ms, for each job
-- Returns the ids whose token is not current; nothing of those is touched.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stale = {}

for i = 1, #ARGV, 3 do
    local id = ARGV[i]
    local count, token = string.match(redis.call('HGET', KEYS[3], id) or '', '^(%d+):(.+)$')
    if token == ARGV[i + 1] then
        redis.call('ZREM', KEYS[2], id)
        redis.call('HSET', KEYS[3], id, count .. ':')
        redis.call('ZADD', KEYS[1], now + ARGV[i + 2], id)
    else
        stale[#stale + 1] = id
    end
end
return stale
