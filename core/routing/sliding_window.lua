-- Take one place in a sliding window: at most so many in any stretch of so many microseconds.
--
-- KEYS[1]  list of the times, in microseconds, of those let in, the oldest first; never longer than the limit
-- ARGV[1]  the limit
-- ARGV[2]  the length of the window, in microseconds
-- returns  0 when let in; otherwise the microseconds until the next place falls free
--
-- One script, so that no two processes can both take the last place, and Redis's own clock, so that theirs
-- need not agree. O(1); the key goes away by itself once the window is empty.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local newest = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0)
if newest > now then -- the clock was set back: without this the limit would hold until it has caught up
  redis.call('DEL', KEYS[1])
end

if redis.call('LLEN', KEYS[1]) >= limit then
  local wait = tonumber(redis.call('LINDEX', KEYS[1], 0)) + window - now
  if wait > 0 then
    return wait
  end
  redis.call('LPOP', KEYS[1])
end

redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return 0
