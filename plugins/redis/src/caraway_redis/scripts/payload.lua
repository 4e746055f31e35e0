-- What is held, delayed and given back.
-- held entry: step "\n" queue "\n" payload; delayed member: step "\n" payload.

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

local function split(entry)
  return string.match(entry, '^(%d+)\n([^\n]*)\n(.*)$')
end

-- The payload with one delivery more on its count.
local function counted(payload)
  local n, rest = string.match(payload, '^{"attempt":(%d+),(.*)$')
  if n then
    return '{"attempt":' .. (tonumber(n) + 1) .. ',' .. rest
  end
  if string.sub(payload, 1, 2) == '{"' then
    return '{"attempt":1,' .. string.sub(payload, 2)
  end
  return payload
end

-- Delays a member, and tells who waits of it if it is due soon.
local function delay(key, due, member)
  redis.call('ZADD', key, due, member)
  if tonumber(due) - now() < 3 then
    local bell = key .. '\nbell'
    redis.call('LPUSH', bell, '1')
    redis.call('LTRIM', bell, 0, 0)
    redis.call('EXPIRE', bell, 10)
  end
end

-- The list of a queue and a step; prefix and separator are those of the caller.
local function list(prefix, sep, queue, step)
  if step == '0' then
    return prefix .. queue
  end
  return prefix .. queue .. sep .. step
end
