-- Forgets failures whose rows of failed_jobs are written, unless the job failed anew since.
-- KEYS[1]  failed       hash    id -> the failure's record
-- ARGV     id, record, for each failure
-- Returns nothing.
for i = 1, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
