-- Puts back one message that a worker of Celery's held too long.
-- KEYS: unacked, unacked_index    ARGV: tag, not after, the value seen, lists, payload
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then
  return 0
end
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
if value ~= ARGV[3] or #ARGV < 5 then
  return 0
end
for i = 4, #ARGV - 1 do
  if other_type(ARGV[i], 'list') then
    return wrong(ARGV[i])
  end
end
-- A server without memory refuses this, and nothing has happened.
for i = 4, #ARGV - 1 do
  redis.call('RPUSH', ARGV[i], ARGV[#ARGV])
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
