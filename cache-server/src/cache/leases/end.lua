-- Ends a lease, if it is the owner's still, and tells those who wait.
-- KEYS: the lease. ARGV: the token of its claim, a colon and its owner; `stored`, or why there is no entry;
--       how long it is remembered that there is one, in milliseconds; the channel, and what is said there.
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 1, 1) == 'd' or string.sub(lease, 2) ~= ARGV[1] then return 0 end
if ARGV[2] == 'stored' then
  redis.call('SET', KEYS[1], 'd' .. ARGV[1], 'PX', ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
if string.sub(lease, 1, 1) == 'w' then redis.pcall('PUBLISH', ARGV[4], ARGV[5]) end
return 1
