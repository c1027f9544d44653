-- End reservations: their bytes count as stored from now on ("settle"), or not at all ("give back").
-- ARGV: prefix of an account's key, "settle" or "give back", and for each reservation its account, key, owner
-- and expiry.

-- As Accounts.give_back says; "+" is base.SHARED, "run:" base.AT_WORK.
local function give_back(account, key, known, owner, expiry)
    local size, ends, holder = string.match(known, '^(%d+) (%d+) (.*)$')
    local is_shared = string.sub(holder, 1, 1) == '+'
    is_shared = is_shared or (owner == '' and string.sub(holder, 1, 4) == 'run:')
    if not is_shared and (owner == '' or holder == owner) then
        redis.call('HDEL', account, key)
    elseif is_shared and (owner == '' or holder == '+' .. owner) and tonumber(expiry) < tonumber(ends) then
        redis.call('HSET', account, key, size .. ' ' .. expiry .. ' ' .. holder)
    end
end

for i = 3, #ARGV, 4 do
    local account, key = ARGV[1] .. ARGV[i], ARGV[i + 1]
    local known = redis.call('HGET', account, key)
    if known then
        if ARGV[2] == 'give back' then
            give_back(account, key, known, ARGV[i + 2], ARGV[i + 3])
        else
            local size = string.match(known, '^(%d+) ')
            redis.call('HDEL', account, key)
            local life = redis.call('TTL', account) -- the hash may have been emptied a moment ago
            redis.call('HINCRBY', account, 'settled', 1)
            redis.call('HINCRBY', account, 'stored', size)
            redis.call('EXPIRE', account, math.max(life, 86400))
        end
    end
end
