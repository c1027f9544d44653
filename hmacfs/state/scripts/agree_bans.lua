-- Whose secret's bans these are; those of another one are forgotten. Failures that were counted go in ten minutes.
-- KEYS: as in save_bans. ARGV: a fingerprint, a new mark, life in seconds. Answers 1 when it was another one.
local known = redis.call('HGET', KEYS[3], 'secret')
if known == ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[3], 'secret', ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[3])
if not known then
    return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[3], 'mark', ARGV[2])
return 1
