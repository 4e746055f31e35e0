-- Begins an owner.  Answers 0 if its id is in use.
-- KEYS: owners, leases, infos, inboxes
-- ARGV: owner, lease (s), info, inboxes
local owner = ARGV[1]
if redis.call('ZSCORE', KEYS[1], owner) then
  return 0
end
-- As in declare: never refused.
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], string.format('%.6f', now() + tonumber(ARGV[2])), owner)
redis.call('HSET', KEYS[2], owner, ARGV[2])
redis.call('HSET', KEYS[3], owner, ARGV[3])
redis.call('HSET', KEYS[4], owner, ARGV[4])
return 1
