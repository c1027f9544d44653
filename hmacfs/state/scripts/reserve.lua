-- Reserve bytes of an account if they fit into its quota beside what is stored and reserved.
-- An account is a hash: "stored" and "until" of its count, "epoch" under which it was counted, how often something was
-- "settled", and a field for each reservation, named by its key: size, expiry and owner.
-- KEYS: the account, the present epoch of counts. ARGV: key, size, owner, expiry, quota, now, most reservations.
local now, expiry = tonumber(ARGV[6]), tonumber(ARGV[4])
local all = redis.call('HGETALL', KEYS[1])
local account, last = {}, expiry
for i = 1, #all, 2 do
    account[all[i]] = all[i + 1]
end
local epoch = redis.call('GET', KEYS[2])
if not epoch or account['epoch'] ~= epoch or tonumber(account['until']) <= now then
    return 'uncounted'
end
local used, number, owner = tonumber(account['stored']), 0, ARGV[3]
for key, text in pairs(account) do
    local size, ends, holder = string.match(text, '^(%d+) (%d+) (.*)$')
    if size and tonumber(ends) <= now then
        redis.call('HDEL', KEYS[1], key)
    elseif size and key == ARGV[1] then
        expiry = math.max(expiry, tonumber(ends))
        if string.sub(holder, 1, 4) == 'run:' or string.sub(holder, 1, 1) == '+' then
            owner = '+' .. owner -- base.owner_after
        end
    elseif size then
        used, number, last = used + tonumber(size), number + 1, math.max(last, tonumber(ends))
    end
end
if used + tonumber(ARGV[2]) > tonumber(ARGV[5]) or number >= tonumber(ARGV[7]) then
    return 'full'
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %.0f %s', ARGV[2], expiry, owner))
redis.call('EXPIRE', KEYS[1], math.max(last, expiry, tonumber(account['until'])) - now)
return 'granted'
