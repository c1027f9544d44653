-- Texts of sessions that expire after a time, the first to expire first.
-- KEYS: the list. ARGV: prefix of a session's key, Unix seconds, how many.
local found, limit, offset = {}, tonumber(ARGV[3]), 0
while #found < limit do
    local keys = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'LIMIT', offset, limit)
    if #keys == 0 then
        break
    end
    for _, key in ipairs(keys) do
        local text = redis.call('GET', ARGV[1] .. key)
        if text and #found < limit then
            found[#found + 1] = text
        end
    end
    offset = offset + #keys
end
return found
