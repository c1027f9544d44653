-- Prolong reservations, and make those that were lost.
-- ARGV: prefix of an account's key, now, and for each reservation its account, key, size, owner and expiry.
local now = tonumber(ARGV[2])
for i = 3, #ARGV, 5 do
    local account, key, size, owner, expiry = ARGV[1] .. ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
    local known = redis.call('HGET', account, key)
    local bytes, ends, holder = string.match(known or '', '^(%d+) (%d+) (.*)$')
    if bytes and tonumber(ends) > now then
        size, owner = bytes, holder
        if tonumber(ends) > tonumber(expiry) then
            expiry = ends
        end
    end
    redis.call('HSET', account, key, size .. ' ' .. expiry .. ' ' .. owner)
    local life = math.max(redis.call('TTL', account), tonumber(expiry) - now)
    redis.call('EXPIRE', account, life)
end
