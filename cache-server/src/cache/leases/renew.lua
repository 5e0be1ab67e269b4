-- Lets a lease live on, if it is the owner's still.
-- KEYS: the lease. ARGV: the token of its claim, a colon and its owner; how long it lives in milliseconds.
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 1, 1) == 'd' or string.sub(lease, 2) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
