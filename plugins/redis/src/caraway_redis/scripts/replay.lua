-- Moves dead letters back to the tail of their queues, their attempts forgotten.
-- KEYS: dead index    ARGV: prefix, separator, dead prefix, dead-of-queue prefix, ids
local count = 0
for i = 5, #ARGV do
  local key = ARGV[3] .. ARGV[i]
  local found = redis.call('HMGET', key, 'payload', 'queue', 'step')
  if found[1] then
    local payload = string.gsub(found[1], '^%s*{%s*"attempt"%s*:%s*%d+%s*,', '{', 1)
    -- What may fail comes first: then the letter stays.
    redis.call('LPUSH', list(ARGV[1], ARGV[2], found[2], found[3]), payload)
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZREM', ARGV[4] .. found[2], ARGV[i])
    count = count + 1
  end
end
return count
