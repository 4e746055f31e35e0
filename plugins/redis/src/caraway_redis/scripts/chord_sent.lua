-- The body was sent: drop what was kept; members that report later are not counted.
-- KEYS: results, extra members, size, counted members, claim    ARGV: seconds to remember
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], 'done', 'EX', ARGV[1])
return 1
