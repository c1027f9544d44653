-- The book, the mark, and all bans unless the mark is known. KEYS: as in save_bans. ARGV: the known mark, a name for the
-- book in case it is new (of a Redis that lost it too), life in seconds.
if redis.call('HSETNX', KEYS[3], 'book', ARGV[2]) == 1 then
    redis.call('HSET', KEYS[3], 'mark', ARGV[2])
end
for i = 1, 3 do
    redis.call('EXPIRE', KEYS[i], ARGV[3])
end
local mark = redis.call('HGET', KEYS[3], 'mark')
local bans = {}
if mark ~= ARGV[1] then
    bans = redis.call('HVALS', KEYS[1])
end
return {redis.call('HGET', KEYS[3], 'book'), mark, bans}
