-- Forgets entries that were dealt with, unless they are others by now: the job failed anew, or was put back anew.
-- KEYS[1]  failed, or returned    hash    by id
-- ARGV     id, SHA-1 of the value in hexadecimal, for each entry
-- Returns nothing.
for i = 1, #ARGV, 2 do
    local value = redis.call('HGET', KEYS[1], ARGV[i])
    if value and redis.sha1hex(value) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
