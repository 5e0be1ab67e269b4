-- Lets a lease go of which its owner does not know, as it heard no answer to its claim.
-- KEYS: the lease. ARGV: its owner; the channel, and what is said there.
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 1, 1) == 'd' then return 0 end
if string.match(lease, '^.%d+:(.*)$') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if string.sub(lease, 1, 1) == 'w' then redis.pcall('PUBLISH', ARGV[2], ARGV[3]) end
return 1
