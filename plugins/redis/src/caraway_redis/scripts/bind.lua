-- Adds a binding that expires, and puts its exchange's deadline off.
-- KEYS: bindings of the exchange, deadlines    ARGV: member, exchange, ms
redis.call('SADD', KEYS[1], ARGV[1])
local t = redis.call('TIME')
local ms = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('ZADD', KEYS[2], 'GT', ms + tonumber(ARGV[3]), ARGV[2])
return 1
