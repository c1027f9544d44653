-- Forget bans and failures of some addresses. KEYS: as in save_bans. ARGV: prefix of an address's failures, a new mark,
-- life in seconds, addresses.
for i = 4, #ARGV do
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('DEL', ARGV[1] .. ARGV[i])
end
redis.call('HSET', KEYS[3], 'mark', ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[3])
