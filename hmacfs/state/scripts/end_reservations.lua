-- End reservations: their bytes count as stored from now on ("settle"), or not at all ("give back").
-- ARGV: prefix of an account's key, "settle" or "give back", and for each reservation its account, key and owner.
for i = 3, #ARGV, 3 do
    local account, key, owner = ARGV[1] .. ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local known = redis.call('HGET', account, key)
    if known then
        local size, _, holder = string.match(known, '^(%d+) (%d+) (.*)$')
        if ARGV[2] == 'settle' or owner == '' or holder == owner then
            redis.call('HDEL', account, key)
        end
        if ARGV[2] == 'settle' then
            local life = redis.call('TTL', account) -- the hash may have been emptied a moment ago
            redis.call('HINCRBY', account, 'settled', 1)
            redis.call('HINCRBY', account, 'stored', size)
            redis.call('EXPIRE', account, math.max(life, 86400))
        end
    end
end
