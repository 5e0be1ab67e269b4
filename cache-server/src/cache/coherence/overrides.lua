-- Overrides that servers share: takes some in, and gives all if any has changed.
-- KEYS: the hash. ARGV: the version that the asking server knows, a new one, the time in milliseconds, how
--       many are kept, the channel; then numbers of overrides and what is known of them: when it is over,
--       a bar, and what it is, or nothing if it was let go.
local hash = KEYS[1]
local version = redis.call('HGET', hash, 'version') or ''
local is_changed = false

local function is_over(known)
  return tonumber(string.match(known, '^(%d+)|') or 0) < tonumber(ARGV[3])
end

-- Where nothing is told, nothing is looked through.
local count = 0
if #ARGV >= 6 then
  local all = redis.call('HGETALL', hash)
  for at = 1, #all, 2 do
    if all[at] ~= 'version' and is_over(all[at + 1]) then
      redis.call('HDEL', hash, all[at])
    else
      count = count + 1
    end
  end
end

for at = 6, #ARGV, 2 do
  local id, told = ARGV[at], ARGV[at + 1]
  local known = redis.call('HGET', hash, id)
  local was_let_go = known and string.sub(known, -1) == '|'
  local is_news = not known or (string.sub(told, -1) == '|' and not was_let_go)
  -- That one is let go takes no more room.
  if is_news and not is_over(told) and (known or count < tonumber(ARGV[4])) then
    redis.call('HSET', hash, id, told)
    if not known then count = count + 1 end
    is_changed = true
  end
end

if is_changed then
  version = ARGV[2]
  redis.call('HSET', hash, 'version', version)
  redis.pcall('PUBLISH', ARGV[5], 'overrides')
end

if version == ARGV[1] then return {version} end
return {version, redis.call('HGETALL', hash)}
