-- Keep sessions until they expire, where nothing newer is kept, and list those that are not over in one sorted set that
-- cannot grow without bound.
-- KEYS: the list. ARGV: prefix of a session's key, most sessions, longest life in seconds,
-- and for each session its key, its expiry in Unix seconds and its text: the fields of SessionRow as a JSON array.

-- base.SESSION_ORDER: when it began, whether it is over, its offset, its expiry. Exact up to 2^53.
local function rank(row)
    return {row[7], row[9] and 1 or 0, row[4], row[8]}
end

local function is_older(one, other)
    for i = 1, #one do
        if one[i] ~= other[i] then
            return one[i] < other[i]
        end
    end
    return false
end

local now = tonumber(redis.call('TIME')[1])
for i = 4, #ARGV, 3 do
    local key, expiry, text = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    local life = math.min(expiry - now, tonumber(ARGV[3]))
    local known, row = redis.call('GET', ARGV[1] .. key), cjson.decode(text)
    if not known or not is_older(rank(row), rank(cjson.decode(known))) then
        if life > 0 then
            redis.call('SET', ARGV[1] .. key, text, 'EX', life)
        else
            redis.call('DEL', ARGV[1] .. key)
        end
        if life > 0 and not row[9] then
            redis.call('ZADD', KEYS[1], expiry, key)
        else
            redis.call('ZREM', KEYS[1], key)
        end
    end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[2]) - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
