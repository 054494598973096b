-- Deletes jobs that nobody executes, some at a time.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  tries        hash    id -> "<tries>:<token>"
-- KEYS[3]  available    list    "<ms since it is available>:<id>"
-- KEYS[4]  scheduled    zset    id by due time in ms
-- KEYS[5]  retryable    zset    id by due time in ms
-- ARGV[1]  how many of each state at most
-- Returns how many were deleted.
local ids = {}
for _, entry in ipairs(redis.call('LPOP', KEYS[3], ARGV[1]) or {}) do
    ids[#ids + 1] = string.sub(entry, string.find(entry, ':', 1, true) + 1)
end
for _, key in ipairs({KEYS[4], KEYS[5]}) do
    local popped = redis.call('ZPOPMIN', key, ARGV[1])
    for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
end
if #ids > 0 then
    redis.call('HDEL', KEYS[1], unpack(ids))
    redis.call('HDEL', KEYS[2], unpack(ids))
end
return #ids
