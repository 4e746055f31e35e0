-- Hands deliveries from one owner to another.
-- KEYS: owners, held of the giver, held of the heir    ARGV: giver, heir, tags
-- Answer: tag, entry, tag, entry ...
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) or not redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  return {}
end
local out = {}
for i = 3, #ARGV do
  local entry = redis.call('HGET', KEYS[2], ARGV[i])
  if entry then
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('HSET', KEYS[3], ARGV[i], entry)
    out[#out + 1] = ARGV[i]
    out[#out + 1] = entry
  end
end
return out
