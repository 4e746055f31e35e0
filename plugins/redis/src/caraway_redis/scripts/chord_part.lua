-- Keeps the end of one member of a chord and counts it, in Celery's keys, so that
-- workers of either kind may end members of the same chord.
-- KEYS: results, extra members, size, counted members, claim, group
-- ARGV: member, payload, '1' if ordered, index, size or 0, ttl (ms, 0 for none), claim,
--       seconds of a claim
-- Answer: nothing; or, if this member completes the chord, all payloads in order.
local state = redis.call('GET', KEYS[5])
if state == 'done' then
  return false
end
-- A write that a server without memory never refuses: what ends makes room.
redis.call('SREM', KEYS[4], '')
if redis.call('SADD', KEYS[4], ARGV[1]) == 1 then
  if ARGV[3] == '1' then
    redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2])
  else
    redis.call('RPUSH', KEYS[1], ARGV[2])
  end
end
local ttl = tonumber(ARGV[6])
if ttl > 0 then
  for i = 1, 4 do
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
  redis.call('PEXPIRE', KEYS[6], ttl)
end
local size = tonumber(redis.call('GET', KEYS[3]) or ARGV[5])
local extra = tonumber(redis.call('GET', KEYS[2]) or 0)
local ended
if ARGV[3] == '1' then
  ended = redis.call('ZCARD', KEYS[1])
else
  ended = redis.call('LLEN', KEYS[1])
end
if size <= 0 or ended < size + extra then
  return false
end
if state ~= ARGV[7] and not redis.call('SET', KEYS[5], ARGV[7], 'NX', 'EX', ARGV[8]) then
  return false
end
redis.call('EXPIRE', KEYS[5], ARGV[8])
if ARGV[3] == '1' then
  return redis.call('ZRANGE', KEYS[1], 0, -1)
end
return redis.call('LRANGE', KEYS[1], 0, -1)
