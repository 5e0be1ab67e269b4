-- Claims the fetch of a key.
-- KEYS: the lease. ARGV: who claims it, how long it lives in milliseconds, and the token of an end that
--       the claimer has heard of.
-- Gives what it came to, the claim's token, and how long the lease of another still lives.
-- A lease is `h` (held), `w` (held, and others wait) or `d` (it has ended by an entry), then the token of
-- its claim, a colon, and its owner.
local function text(number) return string.format('%.0f', number) end

local lease = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local token = tonumber(time[1]) * 1000000 + tonumber(time[2])
if lease then
  local state, before = string.sub(lease, 1, 1), tonumber(string.match(lease, '^.(%d+):') or 0)
  -- Tokens grow, whatever the clock does.
  token = math.max(token, before + 1)
  if state ~= 'd' then
    local left = redis.call('PTTL', KEYS[1])
    if state == 'h' and left > 0 then
      redis.call('SET', KEYS[1], 'w' .. string.sub(lease, 2), 'PX', left)
    end
    return {'held', text(token), left}
  elseif before > tonumber(ARGV[3]) then
    return {'stored', text(before), 0}
  end
end
redis.call('SET', KEYS[1], 'h' .. text(token) .. ':' .. ARGV[1], 'PX', ARGV[2])
return {'won', text(token), 0}
