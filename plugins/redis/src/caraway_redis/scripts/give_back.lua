-- Ends an owner: what it held returns to the head of its queues, in order.
-- KEYS: owners, leases, infos, inboxes, held, orphans
-- ARGV: prefix, separator, owner, 'counted' or '', '1' if its lease must be over,
--       seconds for which something may still come to its inboxes
local owner = ARGV[3]
if ARGV[5] ~= '' then
  -- A sweep: the owner may have been renewed since it was found.
  local ends = redis.call('ZSCORE', KEYS[1], owner)
  if not ends or tonumber(ends) > now() then
    return 0
  end
end
local count = 0
local entries = redis.call('HGETALL', KEYS[5])
local tags = {}
local by_tag = {}
for i = 1, #entries, 2 do
  local tag = tonumber(entries[i])
  tags[#tags + 1] = tag
  by_tag[tag] = entries[i + 1]
end
table.sort(tags, function(a, b) return a > b end)
local boxes = redis.call('HGET', KEYS[4], owner)
redis.call('ZREM', KEYS[1], owner)
redis.call('HDEL', KEYS[2], owner)
redis.call('HDEL', KEYS[3], owner)
redis.call('HDEL', KEYS[4], owner)
if boxes then
  -- inbox "\n" list, newest arrival first: they go back before what was held
  for box, target in string.gmatch(boxes, '([^\n]+)\n([^\n]+)\n?') do
    while redis.call('LMOVE', box, target, 'LEFT', 'RIGHT') do
      count = count + 1
    end
  end
  if ARGV[6] ~= '0' then
    redis.call('ZADD', KEYS[6], string.format('%.3f', now() + tonumber(ARGV[6])), boxes)
  end
end
for _, tag in ipairs(tags) do
  local step, queue, payload = split(by_tag[tag])
  if step then
    if ARGV[4] ~= '' then
      payload = counted(payload)
    end
    redis.call('RPUSH', list(ARGV[1], ARGV[2], queue, step), payload)
    count = count + 1
  end
end
redis.call('DEL', KEYS[5])
return count
