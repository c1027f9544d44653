-- Count failures in slices of time; those of a banned address do not count. KEYS: the bans by address, as in save_bans.
-- ARGV: Unix seconds, prefix of an address's key, the slice of now, the last one that counts no more, the window in
-- seconds, and for each address its name and how many more. Answers how many of each count now.
local found = {}

local function is_banned(address)
    local ban = redis.call('HGET', KEYS[1], address)
    return ban and cjson.decode(ban)[3] > tonumber(ARGV[1])
end

local function count(key, more)
    local sum = 0
    redis.call('HINCRBY', key, ARGV[3], more)
    redis.call('EXPIRE', key, ARGV[5])
    local slices = redis.call('HGETALL', key)
    for j = 1, #slices, 2 do
        if tonumber(slices[j]) > tonumber(ARGV[4]) then
            sum = sum + tonumber(slices[j + 1])
        else
            redis.call('HDEL', key, slices[j])
        end
    end
    return sum
end

for i = 6, #ARGV, 2 do
    found[#found + 1] = is_banned(ARGV[i]) and 0 or count(ARGV[2] .. ARGV[i], ARGV[i + 1])
end
return found
