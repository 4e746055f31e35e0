-- Takes a binding away with its list, and the exchange's deadline with its last binding.
-- KEYS: bindings of the exchange, deadlines, list    ARGV: member, exchange
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[3])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
end
return 1
