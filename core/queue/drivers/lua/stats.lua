-- Counts a queue's jobs by state.
-- KEYS[1]  available    list    "<ms since it is available>:<id>"
-- KEYS[2]  scheduled    zset
-- KEYS[3]  executing    zset
-- KEYS[4]  retryable    zset
-- KEYS[5]  failed       hash    failures whose row is still to be written
-- KEYS[6]  waiting      zset    jobs whose turn has not come (turns.lua): they count as scheduled
-- Returns available, scheduled, executing, retryable, failed, and the age of the head of the line in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('LINDEX', KEYS[1], 0)
local age = head and math.max(0, now - string.match(head, '^%d+')) or 0
return {
    redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[6]),
    redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[4]), redis.call('HLEN', KEYS[5]), age
}
