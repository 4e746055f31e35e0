-- Extends leases; answers with the owners that are lost.
-- KEYS: owners, leases    ARGV: owners
local time = now()
local lost = {}
-- A server without memory refuses a script only before its first write, and this one
-- it never refuses: leases must not lapse because it is full.
redis.call('ZREM', KEYS[1], '')
for i = 1, #ARGV do
  local lease = redis.call('HGET', KEYS[2], ARGV[i])
  if lease and redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], string.format('%.6f', time + tonumber(lease)), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
