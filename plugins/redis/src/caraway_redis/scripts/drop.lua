-- Deletes dead letters.
-- KEYS: dead index    ARGV: dead prefix, dead-of-queue prefix, ids
local count = 0
for i = 3, #ARGV do
  local key = ARGV[1] .. ARGV[i]
  local queue = redis.call('HGET', key, 'queue')
  if queue then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZREM', ARGV[2] .. queue, ARGV[i])
    count = count + 1
  end
end
return count
