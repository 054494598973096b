-- Tells which failures lie here no longer, or are others by now.
-- KEYS[1]  failed       hash    id -> the failure's record
-- ARGV     id, SHA-1 of the record in hexadecimal, for each failure
-- Returns the ids of those.
local gone = {}
for i = 1, #ARGV, 2 do
    local record = redis.call('HGET', KEYS[1], ARGV[i])
    if not record or redis.sha1hex(record) ~= ARGV[i + 1] then gone[#gone + 1] = ARGV[i] end
end
return gone
