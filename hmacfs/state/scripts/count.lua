-- What the catalogue says that an account has stored.
-- KEYS: the account, the present epoch of counts. ARGV: bytes, now, until when that holds, an epoch in case there is
-- none, and the life of an epoch in seconds, longer than that of any count.
local epoch = redis.call('GET', KEYS[2]) or ARGV[4]
redis.call('SET', KEYS[2], epoch, 'EX', ARGV[5])
redis.call('HSET', KEYS[1], 'stored', ARGV[1], 'until', ARGV[3], 'epoch', epoch)
redis.call('EXPIRE', KEYS[1], math.max(redis.call('TTL', KEYS[1]), tonumber(ARGV[3]) - tonumber(ARGV[2])))
