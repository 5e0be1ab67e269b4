-- Writes a value, unless a later fetch has, or is about to. Says 1 where it was written, 0 where there is a
-- later one, 2 where one will be.
-- KEYS: the value's name, its lease. ARGV: the fetch's token, as a number and as eight bytes; how long the
--       value lives in milliseconds; the value; who writes it, who may have the lease without knowing.
-- Bytes are compared by hand: how Lua compares them depends on the locale, and numbers lose digits.
local function is_later(one, other)
  for at = 1, 8 do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then return a > b end
  end
  return false
end

-- A token of a time to come is of a clock that was wrong: it fences nothing off.
local function has_come(token)
  local number = 0
  for at = 1, 8 do number = number * 256 + string.byte(token, at) end
  local now = redis.call('TIME')
  return number <= (now[1] + 1) * 1000000 + now[2]
end

local before = redis.call('GETRANGE', KEYS[1], 2, 9)
if #before == 8 and is_later(before, ARGV[2]) and (has_come(before) or not has_come(ARGV[2])) then
  return 0
end
local lease = redis.call('GET', KEYS[2])
if lease then
  local token, owner = string.match(lease, '^.(%d+):(.*)$')
  if token and tonumber(token) > tonumber(ARGV[1]) and owner ~= ARGV[5] then return 2 end
end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3])
return 1
