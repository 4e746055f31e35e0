-- Marks tasks as revoked.
-- KEYS: revoked    ARGV: seconds, task ids
local ttl = tonumber(ARGV[1])
local till = string.format('%.6f', now() + ttl)
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'GT', till, ARGV[i])
end
-- It ends when its last mark has: no sweep is needed for that.
local life = math.ceil(ttl) + 60
if redis.call('TTL', KEYS[1]) < life then
  redis.call('EXPIRE', KEYS[1], life)
end
return 1
