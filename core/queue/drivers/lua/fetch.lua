-- Takes jobs from the head of the line: counts a try and leases each of them.
-- KEYS[1]  jobs         hash    id -> payload
-- KEYS[2]  executing    zset    id by the end of its lease in ms
-- KEYS[3]  tries        hash    id -> "<tries>:<token>"; the token is empty while nobody holds the job
-- KEYS[4]  available    list    "<ms since it is available>:<id>"
-- ARGV[1]  how many at most (1 to 1000)
-- ARGV[2]  length of the lease in ms
-- ARGV[3]  token that was never used before
-- Returns a flat list: id, payload, tries, for each job.
local entries = redis.call('LPOP', KEYS[4], ARGV[1])
if not entries then return {} end

local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
local ids = {}
for i, entry in ipairs(entries) do ids[i] = string.sub(entry, string.find(entry, ':', 1, true) + 1) end

local payloads = redis.call('HMGET', KEYS[1], unpack(ids))
local before = redis.call('HMGET', KEYS[3], unpack(ids))
local leases, tries, fetched = {}, {}, {}
for i, id in ipairs(ids) do
    local count = (before[i] and tonumber(string.match(before[i], '^%d+')) or 0) + 1
    leases[#leases + 1] = ends
    leases[#leases + 1] = id
    tries[#tries + 1] = id
    tries[#tries + 1] = count .. ':' .. ARGV[3]
    fetched[#fetched + 1] = id
    fetched[#fetched + 1] = payloads[i] or ''
    fetched[#fetched + 1] = count
end
redis.call('ZADD', KEYS[2], unpack(leases))
redis.call('HSET', KEYS[3], unpack(tries))
return fetched
