-- Not a script, but what those begin with that let jobs with an ordering key in or out (scripts.py names them). Of each
-- key, one job has its turn, and may be in any state. The others wait here, and are in no other state meanwhile.
-- KEYS[1]  ordered      hash    id -> ordering key, of every job that has one
-- KEYS[2]  turns        set     ordering keys of which a job has its turn
-- KEYS[3]  waiting      zset    "<ordering key>\0<place in its line>:<due time in ms>:<id>", all with the score 0
-- KEYS[4]  available    list    "<ms since it is available>:<id>"
-- KEYS[5]  scheduled    zset    id by due time in ms
-- ARGV[1]  channel on which idle workers listen
local is_to_be_told = false

local function milliseconds()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Where the entries of an ordering key lie in `waiting`, ends excluded: no key holds a NUL.
local function line_of(key) return '(' .. key .. '\0', '(' .. key .. '\1' end

-- The place, the due time and the id in an entry of `waiting`.
local function parts_of(entry) return string.match(entry, '%z(%d+):(%d+):(.+)$') end

-- Has a job wait behind the others of its ordering key. Returns whether there are none, so that it has its turn.
local function has_turn(id, key, due)
    redis.call('HSET', KEYS[1], id, key)
    if redis.call('SADD', KEYS[2], key) == 1 then return true end
    local start, stop = line_of(key)
    local last = redis.call('ZREVRANGEBYLEX', KEYS[3], stop, start, 'LIMIT', 0, 1)[1]
    local place = last and parts_of(last) + 1 or 1
    redis.call('ZADD', KEYS[3], 0, key .. '\0' .. string.format('%016.0f:%.0f:', place, due) .. id)
    return false
end

-- Makes a job available, or scheduled where it is not due.
local function let_in(id, due, now)
    if due > now then
        redis.call('ZADD', KEYS[5], due, id)
        is_to_be_told = true
    elseif redis.call('RPUSH', KEYS[4], string.format('%.0f:', now) .. id) == 1 then
        is_to_be_told = true
    end
end

-- A worker only sleeps after it found the line empty: no need to tell of what joins a waiting line. A
-- scheduled job is told of for the stagers, which sleep until the next one known to them is due.
local function tell()
    if is_to_be_told then redis.call('PUBLISH', ARGV[1], '') end
end

-- Lets in who waits behind a job that is gone.
local function let_next_in(key, now)
    local start, stop = line_of(key)
    local entry = redis.call('ZRANGEBYLEX', KEYS[3], start, stop, 'LIMIT', 0, 1)[1]
    if entry then
        local _, due, id = parts_of(entry)
        redis.call('ZREM', KEYS[3], entry)
        let_in(id, tonumber(due), now)
    else
        redis.call('SREM', KEYS[2], key)
    end
end

-- Of jobs that are gone, those with an ordering key hand on their turns.
local function hand_on(ids)
    if #ids == 0 or redis.call('EXISTS', KEYS[1]) == 0 then return end
    local now = milliseconds()
    for place, key in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
        if key and redis.call('HDEL', KEYS[1], ids[place]) == 1 then let_next_in(key, now) end
    end
    tell()
end

