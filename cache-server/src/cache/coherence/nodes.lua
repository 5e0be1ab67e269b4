-- The servers that share this Redis: notes one, and gives those of late.
-- KEYS: the sorted set of servers by when they were seen, in seconds. ARGV: a server; for how many seconds
--       one is remembered; how many are given.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], 3600000)
return {now, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])}
