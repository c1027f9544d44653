-- KEYS: the list. ARGV: prefix of a session's key, and the keys of sessions.
for i = 2, #ARGV do
    redis.call('DEL', ARGV[1] .. ARGV[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
end
