-- Gives jobs up: off the queue, into the hash of failures whose row of failed_jobs is still to be written.
-- Begins with turns.lua.
-- KEYS[1…5] see there
-- KEYS[6]  jobs         hash    id -> payload
-- KEYS[7]  executing    zset    id by the end of its lease in ms
-- KEYS[8]  tries        hash    id -> "<tries>:<token>"
-- KEYS[9]  failed       hash    id -> the failure's record
-- KEYS[10] returned     hash    ids put back by hand whose row of failed_jobs is still to be deleted
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, token, record, for each job
-- Returns the ids whose token is not current; nothing of those is touched.
local mine, stale = {}, {}
for i = 2, #ARGV, 3 do
    local id = ARGV[i]
    local token = string.match(redis.call('HGET', KEYS[8], id) or '', ':(.+)$')
    if token == ARGV[i + 1] then
        -- Taken off first: with its memory full, Redis refuses what may grow, but lets a script go on that has written.
        redis.call('HDEL', KEYS[6], id)
        redis.call('HSET', KEYS[9], id, ARGV[i + 2])
        redis.call('ZREM', KEYS[7], id)
        redis.call('HDEL', KEYS[8], id)
        redis.call('HDEL', KEYS[10], id)
        mine[#mine + 1] = id
    else
        stale[#stale + 1] = id
    end
end
hand_on(mine)
return stale
