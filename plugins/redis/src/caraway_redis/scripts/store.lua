-- Stores results.
-- KEYS: the results'    ARGV: for each: payload, ttl (ms, 0 for none)
local count = #ARGV / 2
for i = 1, count do
  keep(KEYS[i], ARGV[2 * i - 1], ARGV[2 * i])
end
return count
