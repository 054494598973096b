-- Deletes jobs that nobody executes, some at a time. Begins with turns.lua.
-- KEYS[1…5] see there
-- KEYS[6]  jobs         hash    id -> payload
-- KEYS[7]  tries        hash    id -> "<tries>:<token>"
-- KEYS[8]  retryable    zset    id by due time in ms
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2]  how many of each state at most
-- Returns how many were deleted.
local ids = {}
local waiting = redis.call('ZPOPMIN', KEYS[3], ARGV[2])
if #waiting > 0 then
    -- They alone, until none is left: one of the others would hand its turn on to one that is to be deleted too.
    for i = 1, #waiting, 2 do ids[#ids + 1] = select(3, parts_of(waiting[i])) end
    redis.call('HDEL', KEYS[1], unpack(ids))
else
    for _, entry in ipairs(redis.call('LPOP', KEYS[4], ARGV[2]) or {}) do
        ids[#ids + 1] = string.sub(entry, string.find(entry, ':', 1, true) + 1)
    end
    for _, key in ipairs({KEYS[5], KEYS[8]}) do
        local popped = redis.call('ZPOPMIN', key, ARGV[2])
        for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
    end
    hand_on(ids)
end
if #ids > 0 then
    redis.call('HDEL', KEYS[6], unpack(ids))
    redis.call('HDEL', KEYS[7], unpack(ids))
end
return #ids
