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
local boxes = redis.call('HGET', KEYS[4], owner)
-- First what may fail, before anything is written.
local held = {}
local checked = {}
local function is_wrong(key)
  if not checked[key] then
    if other_type(key, 'list') then
      return true
    end
    checked[key] = true
  end
end
for i = 1, #entries, 2 do
  local step, queue, payload = split(entries[i + 1])
  local target = list(ARGV[1], ARGV[2], queue, step)
  if is_wrong(target) then
    return wrong(target)
  end
  held[#held + 1] = {tonumber(entries[i]), target, payload}
end
for _, target in string.gmatch(boxes or '', '([^\n]+)\n([^\n]+)\n?') do
  if is_wrong(target) then
    return wrong(target)
  end
end
table.sort(held, function(a, b) return a[1] > b[1] end)
-- The first write, which a server without memory never refuses.
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
for _, entry in ipairs(held) do
  local payload = entry[3]
  if ARGV[4] ~= '' then
    payload = counted(payload)
  end
  redis.call('RPUSH', entry[2], payload)
  count = count + 1
end
redis.call('DEL', KEYS[5])
return count
