-- Purge orders that servers share: publishes some, and reads those after a number.
-- KEYS: the hash of what is known of all, the sorted set of orders by their numbers.
-- ARGV: the greatest number that the asking server knows, a new generation, the number to read after,
--       how many to read, how many to keep, the channel; then orders and their numbers, 0 for a new one.
-- Numbers are written out: what Lua makes of them by itself loses digits.
local meta, orders = KEYS[1], KEYS[2]
local function text(number) return string.format('%.0f', number) end

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local known = redis.call('HMGET', meta, 'generation', 'run', 'newest', 'seeds', 'count', 'floor')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local generation = known[1]
local newest = math.max(tonumber(known[3] or 0), tonumber(ARGV[1]))
local seeds, floor = tonumber(known[4] or 0), tonumber(known[6] or 0)

-- A Redis that has started anew, or has taken over from another, may have lost what came last. And one
-- that has lost some of the orders may have lost any.
local is_new = not generation or known[2] ~= run
  or tonumber(known[5] or -1) ~= redis.call('ZCARD', orders)
if is_new then
  generation = ARGV[2]
  newest = math.max(newest, now) + 10000000
end

local given = {}
for at = 7, #ARGV, 2 do
  local order, number = ARGV[at], tonumber(ARGV[at + 1])
  local is_seed = number > 0
  if not is_seed then
    newest = math.max(newest + 1, now)
    number = newest
  end
  if number > tonumber(redis.call('ZSCORE', orders, order) or 0) then
    -- What is older than an order of everything is part of it.
    if order == 'h' then
      redis.call('ZREMRANGEBYSCORE', orders, '-inf', '(' .. text(number))
    end
    redis.call('ZADD', orders, text(number), order)
    if is_seed then seeds = seeds + 1 end
  end
  given[#given + 1] = text(number)
end

if is_new or #given > 0 then
  while redis.call('ZCARD', orders) > tonumber(ARGV[5]) do
    floor = math.max(floor, tonumber(redis.call('ZPOPMIN', orders)[2]))
  end
  redis.call('HSET', meta, 'generation', generation, 'run', run, 'newest', text(newest),
    'seeds', text(seeds), 'count', redis.call('ZCARD', orders), 'floor', text(floor))
  -- Who may not publish is heard all the same, a little later.
  redis.pcall('PUBLISH', ARGV[6], text(newest))
end

local read = redis.call('ZRANGEBYSCORE', orders, '(' .. ARGV[3], '+inf', 'WITHSCORES',
  'LIMIT', 0, tonumber(ARGV[4]))
return {generation, text(newest), text(seeds), text(floor), text(now), given, read}
