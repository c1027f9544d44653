-- Remember what is known of files, each under the present epoch: a new epoch makes everything older unknown.
-- KEYS: the epoch. ARGV: prefix of a file's key, an epoch in case there is none, life of the epoch in seconds, life of
-- the entries in seconds, "set" or "fill" (only where nothing of this epoch is known), and for each file its path and
-- its text, which is empty for a file that is gone.
local epoch = redis.call('GET', KEYS[1]) or ARGV[2]
redis.call('SET', KEYS[1], epoch, 'EX', ARGV[3]) -- outlives every entry that names it
for i = 6, #ARGV, 2 do
    local key = ARGV[1] .. ARGV[i]
    local known = ARGV[5] == 'fill' and redis.call('GET', key)
    if not known or string.sub(known, 1, #epoch) ~= epoch then
        redis.call('SET', key, epoch .. ARGV[i + 1], 'EX', ARGV[4])
    end
end
