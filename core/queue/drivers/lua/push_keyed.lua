-- Stores jobs as push.lua does, of which some have an ordering key or a unique key. Begins with turns.lua.
-- KEYS[1…5] see there
-- KEYS[6]  jobs         hash    id -> payload
-- KEYS[7…] unique:<key> string  id of the job that was pushed with it; for each job that has one
-- ARGV[1]  channel on which idle workers listen
-- ARGV[2…] id, payload, delay in ms, ordering key or '', for how many ms the unique key is taken or 0, for each job
-- Returns 1 where the queue held no job before, else 0; then, for each job that was left out, its id and the id of the
-- one that stands for it.
local now = milliseconds()
local reply = {redis.call('HLEN', KEYS[6]) == 0 and 1 or 0}

-- The id of the job that a unique key was taken for before, if it is taken.
local function taken_for(unique, id, window)
    return not redis.call('SET', unique, id, 'NX', 'PX', window) and redis.call('GET', unique)
end

local place = 6
for i = 2, #ARGV, 5 do
    local id, payload, delay, key, window = unpack(ARGV, i, i + 4)
    if window ~= '0' then place = place + 1 end
    if redis.call('HEXISTS', KEYS[6], id) == 0 then
        local first = window ~= '0' and taken_for(KEYS[place], id, window)
        if not first then
            local due = now + delay
            redis.call('HSET', KEYS[6], id, payload)
            if key == '' or has_turn(id, key, due) then let_in(id, due, now) end
        elseif first ~= id then -- else this is a push told again, whose job is done
            reply[#reply + 1] = id
            reply[#reply + 1] = first
        end
    end
end
tell()
return reply
