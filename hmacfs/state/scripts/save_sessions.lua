-- Keep sessions until they expire, and list them in one sorted set that cannot grow without bound.
-- KEYS: the list. ARGV: prefix of a session's key, most sessions, longest life in seconds,
-- and for each session its key, its expiry in Unix seconds and its text.
local now = tonumber(redis.call('TIME')[1])
for i = 4, #ARGV, 3 do
    local key, expiry, text = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    local life = math.min(expiry - now, tonumber(ARGV[3]))
    if life > 0 then
        redis.call('SET', ARGV[1] .. key, text, 'EX', life)
        redis.call('ZADD', KEYS[1], expiry, key)
    else
        redis.call('DEL', ARGV[1] .. key)
        redis.call('ZREM', KEYS[1], key)
    end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[2]) - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
