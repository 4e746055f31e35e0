-- Takes messages under the owner's lease.
-- KEYS: owners, held, seq, revoked, sweep, timer, then for each queue: delayed,
--       its lists in the order of serving, their inboxes in the same order
-- ARGV: owner, limit, queues, steps, first queue (from 0), tag after which held
--       entries are unknown to the caller ('' if it knows all), sweep every (ms),
--       then the steps, then the queues' names
-- Answer: status (1, or 0 if the owner is lost), seconds until the next is due or '',
--         flags, first tag,
--         then groups: {queue index, step, payload ...}
local owner, limit = ARGV[1], tonumber(ARGV[2])
local queues, steps, first = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not redis.call('ZSCORE', KEYS[1], owner) then
  return {0, '', 0, 0}
end
local time = now()
local flags = 0
local swept = redis.pcall('SET', KEYS[5], owner, 'NX', 'PX', ARGV[7])
if type(swept) == 'table' then
  if swept.err then
    if not string.find(swept.err, 'OOM', 1, true) then
      return redis.error_reply(swept.err)
    end
  else
    flags = 1
  end
end
if redis.call('EXISTS', KEYS[4]) == 1 then
  flags = flags + 2
end
local each = 1 + 2 * steps
local names = 7 + steps
local next_due = nil
local groups = {}
local writes = {}
local total = 0

if ARGV[6] ~= '' then
  -- An answer got lost on its way: what it carried is held, and nobody runs it.
  local known = tonumber(ARGV[6])
  local answer = {1, '', flags + 4, 0}
  for _, tag in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(tag) > known then
      answer[#answer + 1] = {tag, redis.call('HGET', KEYS[2], tag)}
    end
  end
  if #answer > 4 then
    return answer
  end
end

local function take(queue, most)
  local at = 6 + queue * each
  local name = ARGV[names + queue + 1]
  local due = redis.call('ZRANGE', KEYS[at + 1], 0, 0, 'WITHSCORES')
  if due[2] then
    if tonumber(due[2]) <= time then
      local ready = redis.call('ZRANGEBYSCORE', KEYS[at + 1], '-inf', time, 'LIMIT', 0, 1000)
      for _, member in ipairs(ready) do
        local step, payload = string.match(member, '^(%d+)\n(.*)$')
        redis.call('ZREM', KEYS[at + 1], member)
        -- Its step may be none of ours, if the options changed since.
        local target = nil
        for s = 1, steps do
          if ARGV[7 + s] == step then
            target = KEYS[at + 1 + s]
          end
        end
        redis.call('LPUSH', target or KEYS[at + 2], payload)
      end
      due = redis.call('ZRANGE', KEYS[at + 1], 0, 0, 'WITHSCORES')
    end
    if due[2] and (not next_due or tonumber(due[2]) < next_due) then
      next_due = tonumber(due[2])
    end
  end
  for s = 1, steps do
    if most <= 0 then
      return
    end
    local step = ARGV[7 + s]
    local got
    local box = KEYS[at + 1 + steps + s]
    if redis.call('EXISTS', box) == 1 then
      got = redis.call('RPOP', box, most) or {}
      -- More than was asked for: back to where it came from.
      while redis.call('LMOVE', box, KEYS[at + 1 + s], 'LEFT', 'RIGHT') do end
      if #got < most then
        for _, payload in ipairs(redis.call('RPOP', KEYS[at + 1 + s], most - #got) or {}) do
          got[#got + 1] = payload
        end
      end
    else
      got = redis.call('RPOP', KEYS[at + 1 + s], most)
    end
    if got and #got > 0 then
      local group = {queue, step}
      local head = step .. '\n' .. name .. '\n'
      for i = 1, #got do
        group[i + 2] = got[i]
        writes[total + i] = head .. got[i]
      end
      total = total + #got
      most = most - #got
      groups[#groups + 1] = group
    end
  end
end

local share = limit
if queues > 1 then
  share = math.max(1, math.ceil(limit / queues))
end
for i = 0, queues - 1 do
  take((first + i) % queues, math.min(share, limit - total))
end
if queues > 1 and total < limit then
  for i = 0, queues - 1 do
    take((first + i) % queues, limit - total)
  end
end

local base = 0
if total > 0 then
  base = redis.call('INCRBY', KEYS[3], total) - total + 1
  local args = {}
  for i = 1, total do
    args[2 * i - 1] = string.format('%.0f', base + i - 1)
    args[2 * i] = writes[i]
    if i % 1000 == 0 then
      redis.call('HSET', KEYS[2], unpack(args, 2 * i - 1999, 2 * i))
    end
  end
  local rest = total % 1000
  if rest > 0 then
    redis.call('HSET', KEYS[2], unpack(args, 2 * (total - rest) + 1, 2 * total))
  end
elseif next_due then
  -- One of those who wait is to wake up for what is due next; the others a little later.
  local wait = math.floor((next_due - time) * 1000) + 50
  local claim = redis.pcall('SET', KEYS[6], owner, 'NX', 'PX', math.max(wait, 1))
  if type(claim) == 'table' and not claim.err then
    flags = flags + 8
  elseif redis.call('GET', KEYS[6]) == owner then
    flags = flags + 8
  end
end
local answer = {1, next_due and string.format('%.6f', next_due - time) or '', flags, base}
for i = 1, #groups do
  answer[i + 4] = groups[i]
end
return answer
