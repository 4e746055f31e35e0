-- Applies completions of one owner, as one.
-- KEYS: held, seq, dead index, queues
-- ARGV: prefix, separator, delayed prefix, dead prefix, dead-of-queue prefix,
--       number of completions, then each:
--       tag, action, [release: delay, counted | reject: reason, kind],
--       result key or '', [payload, ttl],
--       number of publications, each: queue, list, step, due or '0', payload
-- Answer: the positions (from 0) of completions whose tags are not held.
local held = KEYS[1]
local prefix, sep, delayed = ARGV[1], ARGV[2], ARGV[3]
local n = tonumber(ARGV[6])
-- First pass: see that no key is of another type, before anything is written.
local at = 7
local tags = {}
local checked = {}
for i = 1, n do
  tags[i] = ARGV[at]
  local action = ARGV[at + 1]
  at = at + 2
  if action ~= 'a' then
    at = at + 2
  end
  at = at + (ARGV[at] ~= '' and 3 or 1)
  local publications = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, publications do
    local key, want = ARGV[at + 1], 'list'
    if ARGV[at + 3] ~= '0' then
      key, want = delayed .. ARGV[at], 'zset'
    end
    if not checked[key] then
      local kind = redis.call('TYPE', key).ok
      if kind ~= 'none' and kind ~= want then
        return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. kind .. ', not a ' .. want)
      end
      checked[key] = true
    end
    at = at + 5
  end
end

local function chunked(command, names)
  local out = {}
  for i = 1, #names, 4000 do
    local part = redis.call(command, held, unpack(names, i, math.min(i + 3999, #names)))
    if type(part) == 'table' then
      for j = 1, #part do
        out[#out + 1] = part[j]
      end
    end
  end
  return out
end

-- The first write frees memory: a server that is full goes on from here to the end.
local fenced = {}
local entries = chunked('HMGET', tags)
chunked('HDEL', tags)
local seen = {}
local released = {}

at = 7
for i = 1, n do
  local entry = entries[i]
  local action = ARGV[at + 1]
  at = at + 2
  local one, two
  if action ~= 'a' then
    one, two = ARGV[at], ARGV[at + 1]
    at = at + 2
  end
  if seen[tags[i]] then
    entry = nil
  end
  seen[tags[i]] = true
  if not entry then
    fenced[#fenced + 1] = i - 1
  elseif action == 'l' then
    local step, queue, payload = split(entry)
    if two == '1' then
      payload = counted(payload)
    end
    if tonumber(one) > 0 then
      local due = string.format('%.6f', now() + tonumber(one))
      delay(delayed .. queue, due, step .. '\n' .. payload)
    else
      released[#released + 1] = {tonumber(tags[i]), list(prefix, sep, queue, step), payload}
    end
  elseif action == 'j' then
    local step, queue, payload = split(entry)
    local past = string.match(payload, '^{"attempt":(%d+),') or '0'
    local id = string.format('%.0f', redis.call('INCR', KEYS[2]))
    local time = now()
    redis.call('HSET', ARGV[4] .. id, 'payload', payload, 'queue', queue, 'step', step,
      'reason', one, 'kind', two, 'attempt', tonumber(past) + 1,
      'at', string.format('%.6f', time))
    redis.call('ZADD', KEYS[3], id, id)
    redis.call('ZADD', ARGV[5] .. queue, id, id)
  end
  local key = ARGV[at]
  if key ~= '' then
    if entry then
      keep(key, ARGV[at + 1], ARGV[at + 2])
    end
    at = at + 3
  else
    at = at + 1
  end
  local publications = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, publications do
    if entry then
      if ARGV[at + 3] == '0' then
        redis.call('LPUSH', ARGV[at + 1], ARGV[at + 4])
      else
        delay(delayed .. ARGV[at], ARGV[at + 3], ARGV[at + 2] .. '\n' .. ARGV[at + 4])
      end
      redis.call('SADD', KEYS[4], ARGV[at])
    end
    at = at + 5
  end
end
-- The head of a queue is served first: what was taken first is put there last.
table.sort(released, function(a, b) return a[1] > b[1] end)
for i = 1, #released do
  redis.call('RPUSH', released[i][2], released[i][3])
end
return fenced
