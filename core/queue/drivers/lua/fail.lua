-- Gives jobs up: off the queue, into the hash of failures whose row of failed_jobs is still to be written.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"
-- KEYS[4]  failed       hash    id -> the failure's record
-- KEYS[5]  returned     hash    ids put back by hand whose row of failed_jobs is still to be deleted
-- ARGV     id, token, record, for each job
-- Returns the ids whose token is not current; nothing of those is touched.
local stale = {}
for i = 1, #ARGV, 3 do
    local id = ARGV[i]
    local token = string.match(redis.call('HGET', KEYS[3], id) or '', ':(.+)$')
    if token == ARGV[i + 1] then
        -- Taken off first: with its memory full, Redis refuses what may grow, but lets a script go on that has written.
        redis.call('HDEL', KEYS[1], id)
        redis.call('HSET', KEYS[4], id, ARGV[i + 2])
        redis.call('ZREM', KEYS[2], id)
        redis.call('HDEL', KEYS[3], id)
        redis.call('HDEL', KEYS[5], id)
    else
        stale[#stale + 1] = id
    end
end
return stale
