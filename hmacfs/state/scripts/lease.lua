-- Take a lease, keep it, or give it back. Answers 1 when the holder may have it.
-- KEYS: the lease. ARGV: the holder, and how many seconds it holds; 0 gives it back.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
    return 0
end
if tonumber(ARGV[2]) > 0 then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
else
    redis.call('DEL', KEYS[1])
end
return 1
