-- Keep bans where nothing newer is kept, and forget the failures that brought them.
-- A ban without length is a lift: its time is less by LIFTS, so that of too many rows lifts go first.
-- KEYS: the bans by address, their addresses by the time when nobody needs them any more, the marks. ARGV: prefix of an
-- address's failures, most bans, life in seconds, a new mark, and for each ban its address, the time when nobody needs it
-- any more in Unix seconds, and its text: the fields of Ban as a JSON array.
-- Returns the addresses that are banned by these and were not when their bans began (core.bans.begins).
local LIFTS = 1e12
local begun = {}
for i = 5, #ARGV, 3 do
    local address, text = ARGV[i], ARGV[i + 2]
    local known, ban = redis.call('HGET', KEYS[1], address), cjson.decode(text)
    if known then
        known = cjson.decode(known)
    end
    if not known or ban[2] > known[2] or (ban[2] == known[2] and ban[3] >= known[3]) then
        local was_banned = known and known[2] ~= known[3] and known[3] > ban[2]
        if ban[2] ~= ban[3] and not was_banned then
            begun[#begun + 1] = address
        end
        redis.call('HSET', KEYS[1], address, text)
        redis.call('ZADD', KEYS[2], ban[2] == ban[3] and ARGV[i + 1] - LIFTS or ARGV[i + 1], address)
    end
    redis.call('DEL', ARGV[1] .. address)
end
local now = tonumber(redis.call('TIME')[1])
for first, last in pairs({['-inf'] = now - LIFTS, [0] = now}) do
    for _, address in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], first, last)) do
        redis.call('HDEL', KEYS[1], address)
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[2], first, last)
end
while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[2]) do
    redis.call('HDEL', KEYS[1], redis.call('ZPOPMIN', KEYS[2])[1])
end
redis.call('HSET', KEYS[3], 'mark', ARGV[4])
for i = 1, 3 do
    redis.call('EXPIRE', KEYS[i], ARGV[3])
end
return begun
