-- Bytes that an account has stored and reserved; nothing where that is not counted.
-- KEYS: the account, the present epoch of counts. ARGV: now.
local now = tonumber(ARGV[1])
local epoch, counted, ends, stored = redis.call('GET', KEYS[2]), unpack(redis.call('HMGET', KEYS[1], 'epoch', 'until', 'stored'))
if not epoch or counted ~= epoch or tonumber(ends) <= now then
    return nil
end
local used = tonumber(stored)
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
    local size, last = string.match(text, '^(%d+) (%d+) ')
    if size and tonumber(last) > now then
        used = used + tonumber(size)
    end
end
return string.format('%.0f', used)
