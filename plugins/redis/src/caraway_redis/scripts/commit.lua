-- Applies completions of one owner, as one.
-- KEYS: held, seq, dead index, queues
-- ARGV: prefix, separator, delayed prefix, dead prefix, dead-of-queue prefix,
--       m, the number of plain acknowledgements, ttl of their results (ms, '0' for
--       none, '' if there are no results), m tags, m times result key and payload,
--       n, the number of other completions, then each:
--       tag, action (a, l, j), [release: delay, counted | reject: reason, kind],
--       result key or '', [payload, ttl],
--       number of publications, each: queue, list, step, due or '0', payload
-- Answer: the positions (from 0) of completions whose tags are not held.
local held = KEYS[1]
local prefix, sep, delayed = ARGV[1], ARGV[2], ARGV[3]
local m, m_ttl = tonumber(ARGV[6]), ARGV[7]
local pairs_at = 8 + m
local at = pairs_at + (m_ttl ~= '' and 2 * m or 0)
local n = tonumber(ARGV[at])
local others = at + 1

-- First what may fail, before anything is written: a script that dies half-way keeps
-- what it has written.
local fenced = {}
for i = 1, m do
  if redis.call('HSTRLEN', held, ARGV[7 + i]) == 0 then
    fenced[#fenced + 1] = i - 1
  end
end
local checked = {}
local function is_wrong(key, want)
  if not checked[key] then
    if other_type(key, want) then
      return true
    end
    checked[key] = true
  end
end
local entries, seen = {}, {}
if n > 0 then
  for i = 1, m do
    seen[ARGV[7 + i]] = true
  end
end
at = others
for i = 1, n do
  local tag, action = ARGV[at], ARGV[at + 1]
  local entry = not seen[tag] and redis.call('HGET', held, tag)
  seen[tag] = true
  entries[i] = entry
  at = at + 2
  if action ~= 'a' then
    if entry and action == 'l' then
      local step, queue = split(entry)
      local key, want = list(prefix, sep, queue, step), 'list'
      if tonumber(ARGV[at]) > 0 then
        key, want = delayed .. queue, 'zset'
      end
      if is_wrong(key, want) then
        return wrong(key)
      end
    end
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
    if entry and is_wrong(key, want) then
      return wrong(key)
    end
    at = at + 5
  end
end

-- The first write frees memory: a server that is full goes on from here to the end.
redis.call('HDEL', held, '')
for i = 1, m, 4000 do
  redis.call('HDEL', held, unpack(ARGV, 7 + i, 7 + math.min(i + 3999, m)))
end
if m_ttl ~= '' then
  -- Most results are a task's first: then all go in at one blow.
  local from = 0
  local skip = {}
  for _, position in ipairs(fenced) do
    skip[position] = true
  end
  while from < m do
    local upto = math.min(from + 2000, m)
    local a, b = pairs_at + 2 * from, pairs_at + 2 * upto - 1
    if #fenced == 0 and redis.call('MSETNX', unpack(ARGV, a, b)) == 1 then
      if m_ttl ~= '0' then
        for i = a, b, 2 do
          redis.call('PEXPIRE', ARGV[i], m_ttl)
        end
      end
      for i = a, b, 2 do
        redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
      end
    else
      for i = from, upto - 1 do
        if not skip[i] then
          keep(ARGV[pairs_at + 2 * i], ARGV[pairs_at + 2 * i + 1], m_ttl)
        end
      end
    end
    from = upto
  end
end

local released = {}
at = others
for i = 1, n do
  local entry = entries[i]
  local tag, action = ARGV[at], ARGV[at + 1]
  at = at + 2
  local one, two
  if action ~= 'a' then
    one, two = ARGV[at], ARGV[at + 1]
    at = at + 2
  end
  if not entry then
    fenced[#fenced + 1] = m + i - 1
  else
    redis.call('HDEL', held, tag)
    if action == 'l' then
      local step, queue, payload = split(entry)
      if two == '1' then
        payload = counted(payload)
      end
      if tonumber(one) > 0 then
        local due = string.format('%.6f', now() + tonumber(one))
        delay(delayed .. queue, due, step .. '\n' .. payload)
      else
        released[#released + 1] = {tonumber(tag), list(prefix, sep, queue, step), payload}
      end
    elseif action == 'j' then
      local step, queue, payload = split(entry)
      local past = string.match(payload, '^%s*{%s*"attempt"%s*:%s*(%d+)%s*,') or '0'
      local id = string.format('%.0f', redis.call('INCR', KEYS[2]))
      redis.call('HSET', ARGV[4] .. id, 'payload', payload, 'queue', queue, 'step', step,
        'reason', one, 'kind', two, 'attempt', tonumber(past) + 1,
        'at', string.format('%.6f', now()))
      redis.call('ZADD', KEYS[3], id, id)
      redis.call('ZADD', ARGV[5] .. queue, id, id)
    end
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
