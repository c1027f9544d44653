-- What the catalogue says that an account has stored. Answers 1, or 0 when something was settled since a mark.
-- KEYS: the account, the present epoch of counts. ARGV: bytes, the mark, now, until when that holds, an epoch in case
-- there is none, and the life of an epoch in seconds, longer than that of any count.
if (redis.call('HGET', KEYS[1], 'settled') or '0') ~= ARGV[2] then
    return 0
end
local epoch = redis.call('GET', KEYS[2]) or ARGV[5]
redis.call('SET', KEYS[2], epoch, 'EX', ARGV[6])
redis.call('HSET', KEYS[1], 'stored', ARGV[1], 'until', ARGV[4], 'epoch', epoch)
redis.call('EXPIRE', KEYS[1], math.max(redis.call('TTL', KEYS[1]), tonumber(ARGV[4]) - tonumber(ARGV[3])))
return 1
