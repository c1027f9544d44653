-- Remember what is known of files, each under the present epoch: a new epoch makes everything older unknown.
-- KEYS: the epoch. ARGV: prefix of a file's key, an epoch in case there is none, life of the epoch in seconds, life of
-- the entries in seconds, "set" (where nothing newer of this epoch is known) or "fill" (only where nothing of it is),
-- and for each file its path and its text: the fields of FileRow as a JSON array, or empty for a file that is gone.
local epoch = redis.call('GET', KEYS[1]) or ARGV[2]
redis.call('SET', KEYS[1], epoch, 'EX', ARGV[3]) -- outlives every entry that names it

-- base.FILE_ORDER: when it was stored. Exact up to 2^53.
local function is_newer(one, other)
    return one ~= '' and other ~= '' and cjson.decode(one)[6] > cjson.decode(other)[6]
end

for i = 6, #ARGV, 2 do
    local key, text = ARGV[1] .. ARGV[i], ARGV[i + 1]
    local entry = redis.call('GET', key)
    local known = entry and string.sub(entry, 1, #epoch) == epoch and string.sub(entry, #epoch + 1)
    if not known or (ARGV[5] == 'set' and not is_newer(known, text)) then
        redis.call('SET', key, epoch .. text, 'EX', ARGV[4])
    end
end
