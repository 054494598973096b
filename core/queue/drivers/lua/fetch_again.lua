-- Takes over jobs that were fetched under a token of which nobody heard: leases them anew, and counts no try.
-- Looks at every job that is executing.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"
-- ARGV[1]  how many at most (1 to 1000)
-- ARGV[2]  length of the lease in ms
-- ARGV[3]  token that was never used before
-- ARGV[4…] the tokens of those jobs
-- Returns a flat list: id, payload, tries, for each job.
local most = tonumber(ARGV[1])
local is_lost = {}
for i = 4, #ARGV do is_lost[ARGV[i]] = true end

local ids, tries, from = {}, {}, 0
repeat
    local page = redis.call('ZRANGE', KEYS[2], from, from + 999)
    local held = #page > 0 and redis.call('HMGET', KEYS[3], unpack(page)) or {}
    for i, id in ipairs(page) do
        local count, token = string.match(held[i] or '', '^(%d+):(.*)$')
        if #ids < most and is_lost[token] then
            ids[#ids + 1] = id
            tries[#tries + 1] = tonumber(count)
        end
    end
    from = from + 1000
until #page < 1000 or #ids == most
if #ids == 0 then return {} end

local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
local payloads = redis.call('HMGET', KEYS[1], unpack(ids))
local fetched = {}
-- Taken out first: with its memory full, Redis refuses what may grow, but lets a script go on that has written.
redis.call('ZREM', KEYS[2], unpack(ids))
for i, id in ipairs(ids) do
    redis.call('ZADD', KEYS[2], ends, id)
    redis.call('HSET', KEYS[3], id, tries[i] .. ':' .. ARGV[3])
    fetched[#fetched + 1] = id
    fetched[#fetched + 1] = payloads[i] or ''
    fetched[#fetched + 1] = tries[i]
end
return fetched
