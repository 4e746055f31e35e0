-- Drops the bindings of exchanges whose deadline has passed, as kombu does: those of reply
-- queues that nobody took away.
-- KEYS: deadlines    ARGV: prefix of bindings, prefix of those that stay
local t = redis.call('TIME')
local ms = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms, 'LIMIT', 0, 100)
for _, exchange in ipairs(over) do
  if redis.call('EXISTS', ARGV[2] .. exchange) == 0 then
    redis.call('DEL', ARGV[1] .. exchange)
  end
  redis.call('ZREM', KEYS[1], exchange)
end
return #over
