-- What is held, delayed and given back.
-- held entry: step "\n" queue "\n" payload; delayed member: step "\n" payload.

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- For a key that holds something else than it should.
local function wrong(key)
  return redis.error_reply('WRONGTYPE of key ' .. key)
end

local function split(entry)
  return string.match(entry, '^(%d+)\n([^\n]*)\n(.*)$')
end

-- The payload with one delivery more on its count.
local function counted(payload)
  local n, rest = string.match(payload, '^%s*{%s*"attempt"%s*:%s*(%d+)%s*,(.*)$')
  if n then
    return '{"attempt":' .. string.format('%.0f', tonumber(n) + 1) .. ',' .. rest
  end
  rest = string.match(payload, '^%s*{%s*(".*)$')
  return rest and '{"attempt":1,' .. rest or payload
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

-- The type of a key that isn't as wanted; nil if all is well.
local function other_type(key, want)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= want then
    return kind
  end
end
