-- Puts back one message that a worker of Celery's held too long.
-- KEYS: unacked, unacked_index    ARGV: tag, not after, the value seen, list, payload
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then
  return 0
end
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
if value ~= ARGV[3] or ARGV[4] == '' then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('RPUSH', ARGV[4], ARGV[5])
return 1
