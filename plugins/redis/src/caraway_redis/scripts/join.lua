-- Counts a member of a group; 1 for the one that completes it, and again for the same.
-- KEYS: members    ARGV: member, size, ttl (ms, 0 for none)
local last = redis.call('HGET', KEYS[1], '')
if last then
  return last == ARGV[1] and 1 or 0
end
redis.call('HSET', KEYS[1], 'm' .. ARGV[1], '1')
if ARGV[3] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], '', ARGV[1])
  return 1
end
return 0
