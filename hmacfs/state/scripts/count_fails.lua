-- Count failures in slices of time. ARGV: prefix of an address's key, the slice of now, the last one that counts no more,
-- the window in seconds, and for each address its name and how many more. Answers how many of each count now.
local found = {}
for i = 5, #ARGV, 2 do
    local key, sum = ARGV[1] .. ARGV[i], 0
    redis.call('HINCRBY', key, ARGV[2], ARGV[i + 1])
    redis.call('EXPIRE', key, ARGV[4])
    local slices = redis.call('HGETALL', key)
    for j = 1, #slices, 2 do
        if tonumber(slices[j]) > tonumber(ARGV[3]) then
            sum = sum + tonumber(slices[j + 1])
        else
            redis.call('HDEL', key, slices[j])
        end
    end
    found[#found + 1] = sum
end
return found
