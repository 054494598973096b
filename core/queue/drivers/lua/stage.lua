-- Makes due jobs available, behind those that are, in the order in which they are due.
-- KEYS[1]  available    list    "<ms since it is available>:<id>"
-- KEYS[2]  scheduled    zset    id by due time in ms
-- KEYS[3]  retryable    zset    id by due time in ms
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2]  how many at most
-- Returns the ms until the next job is due (0 if some are due that did not fit), or -1 where none waits.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local all = {}
for place, key in ipairs({KEYS[2], KEYS[3]}) do
    local found = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
    for i = 1, #found, 2 do
        all[#all + 1] = {key = key, id = found[i], due = tonumber(found[i + 1]), place = place, rank = i}
    end
end
table.sort(all, function(a, b)
    if a.due ~= b.due then return a.due < b.due end
    if a.place ~= b.place then return a.place < b.place end
    return a.rank < b.rank
end)

local staged = math.min(#all, tonumber(ARGV[2]))
for i = 1, staged do
    redis.call('ZREM', all[i].key, all[i].id)
    redis.call('RPUSH', KEYS[1], string.format('%.0f:', all[i].due) .. all[i].id)
end

local next_due = -1
for _, key in ipairs({KEYS[2], KEYS[3]}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then
        local wait = math.max(0, first[2] - now)
        if next_due < 0 or wait < next_due then next_due = wait end
    end
end
if staged > 0 then redis.call('PUBLISH', ARGV[1], '') end
return next_due
