-- Empties the inboxes of owners that ended.
-- KEYS: orphans
local time = now()
local all = redis.call('ZRANGE', KEYS[1], 0, 99, 'WITHSCORES')
for i = 1, #all, 2 do
  local failed = false
  for box, target in string.gmatch(all[i], '([^\n]+)\n([^\n]+)\n?') do
    local moved
    repeat
      moved = redis.pcall('LMOVE', box, target, 'LEFT', 'RIGHT')
    until type(moved) ~= 'string'
    -- A list that can't take them now may later.
    failed = failed or type(moved) == 'table'
  end
  if not failed and tonumber(all[i + 1]) < time then
    redis.call('ZREM', KEYS[1], all[i])
  end
end
return #all / 2
