-- How many deliveries are held of each queue; with ARGV[2], drops those of that queue.
-- KEYS: owners    ARGV: held prefix, queue to drop or ''
local counts, order = {}, {}
local dropped = 0
for _, owner in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. owner
  local entries = redis.call('HGETALL', key)
  for i = 1, #entries, 2 do
    local queue = string.match(entries[i + 1], '^%d+\n([^\n]*)\n')
    if queue then
      if queue == ARGV[2] then
        redis.call('HDEL', key, entries[i])
        dropped = dropped + 1
      else
        if not counts[queue] then
          counts[queue] = 0
          order[#order + 1] = queue
        end
        counts[queue] = counts[queue] + 1
      end
    end
  end
end
if ARGV[2] ~= '' then
  return dropped
end
local out = {}
for _, queue in ipairs(order) do
  out[#out + 1] = queue
  out[#out + 1] = counts[queue]
end
return out
