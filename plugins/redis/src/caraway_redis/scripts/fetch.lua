-- Takes messages under the owner's lease.
-- KEYS: owners, held, seq, revoked, sweep, timer, then for each queue: delayed,
--       its lists in the order of serving, their inboxes in the same order
-- ARGV: owner, limit, queues, steps, first queue (from 0; -1: as they are, none has a
--       share of its own), tag after which held
--       entries are unknown to the caller ('' if it knows all), sweep every (ms),
--       then the steps, then the queues' names
-- Answer: status (1, or 0 if the owner is lost), seconds until the next is due or '',
--         flags, first tag,
--         then groups: {queue index, {payload ...}}
-- flags: 1 sweep, 2 there are revocations, 4 what was unknown, 8 wake up when it is due,
--        16 there is more
local owner, limit = ARGV[1], tonumber(ARGV[2])
local queues, steps, first = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not redis.call('ZSCORE', KEYS[1], owner) then
  return {0, '', 0, 0}
end
local time = now()
local each = 1 + 2 * steps

-- All that may fail comes before the first write: a script that dies half-way keeps what
-- it has written.
local bad
local function look(command, key, ...)
  local got = redis.pcall(command, key, ...)
  if type(got) == 'table' and got.err then
    bad = bad or key
    return nil
  end
  return got
end
look('HLEN', KEYS[2])
look('ZCARD', KEYS[4])
local due, lengths, boxes = {}, {}, {}
for queue = 0, queues - 1 do
  local at = 6 + queue * each
  due[queue] = look('ZRANGE', KEYS[at + 1], 0, 0, 'WITHSCORES')
  for s = 1, steps do
    lengths[at + 1 + s] = look('LLEN', KEYS[at + 1 + s])
    boxes[at + 1 + s] = look('LLEN', KEYS[at + 1 + steps + s])
  end
end
if bad then
  return wrong(bad)
end

-- A server without memory refuses a script only before its first write, and this one it
-- never refuses: what is taken is what makes room.
redis.call('ZREM', KEYS[1], '')
local flags = 0
if redis.call('SET', KEYS[5], owner, 'NX', 'PX', ARGV[7]) then
  flags = 1
end
if redis.call('EXISTS', KEYS[4]) == 1 then
  flags = flags + 2
end

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

-- What is due goes to its list.
local targets = {}
for s = 1, steps do
  targets[ARGV[7 + s]] = 1 + s
end
local next_due = nil
local available = 0
for queue = 0, queues - 1 do
  local at = 6 + queue * each
  if due[queue][2] then
    if tonumber(due[queue][2]) <= time then
      -- Few at a time: each passes through Lua, which is slow where it has many long strings
      -- that are much alike, and all others wait meanwhile.
      local count = redis.call('ZCOUNT', KEYS[at + 1], '-inf', time)
      count = math.max(1, math.min(count, 500))
      local ready = redis.call('ZRANGE', KEYS[at + 1], 0, count - 1)
      redis.call('ZREMRANGEBYRANK', KEYS[at + 1], 0, count - 1)
      local target, payloads, n = nil, {}, 0
      for i = 1, count do
        local member = ready[i]
        local line = string.find(member, '\n', 1, true)
        local to = line and targets[string.sub(member, 1, line - 1)]
        local payload
        if to then
          payload = string.sub(member, line + 1)
        else
          -- Its step may be none of ours, if the options changed since.
          to = 2
          payload = string.match(member, '^%d+\n(.*)$') or member
        end
        -- Neighbours that go to one list go there in one command.
        if to ~= target and n > 0 then
          lengths[at + target] = redis.call('LPUSH', KEYS[at + target], unpack(payloads, 1, n))
          n = 0
        end
        target = to
        n = n + 1
        payloads[n] = payload
      end
      lengths[at + target] = redis.call('LPUSH', KEYS[at + target], unpack(payloads, 1, n))
      due[queue] = redis.call('ZRANGE', KEYS[at + 1], 0, 0, 'WITHSCORES')
    end
    local at_last = tonumber(due[queue][2])
    if at_last and (not next_due or at_last < next_due) then
      next_due = at_last
    end
  end
  for s = 1, steps do
    local list = at + 1 + s
    if boxes[list] > 0 then
      -- What came while nobody fetched is the oldest: it goes to the front again.
      while redis.call('LMOVE', KEYS[list + steps], KEYS[list], 'LEFT', 'RIGHT') do
        lengths[list] = lengths[list] + 1
      end
    end
    available = available + lengths[list]
  end
end

local base = 0
local groups = {}
if available > 0 then
  -- Where little is left, each owner takes no more than its share: else the last tasks
  -- would wait in one lane while the others are idle.
  local sharers = math.min(math.max(redis.call('ZCARD', KEYS[1]), 1), 8)
  local want = math.min(limit, math.ceil(available / sharers))
  if want < available then
    flags = flags + 16
  end
  base = redis.call('INCRBY', KEYS[3], want) - want + 1
  local total = 0
  local args = {}
  local function take(queue, most)
    local at = 6 + queue * each
    for s = 1, steps do
      local list = at + 1 + s
      if most <= 0 then
        return
      end
      if lengths[list] > 0 then
        local got = redis.call('RPOP', KEYS[list], most)
        local count = #got
        local head = ARGV[7 + s] .. '\n' .. ARGV[8 + steps + queue] .. '\n'
        local n = 2 * total
        for i = 1, count do
          args[n + 1] = string.format('%.0f', base + total + i - 1)
          args[n + 2] = head .. got[i]
          n = n + 2
        end
        total = total + count
        most = most - count
        lengths[list] = lengths[list] - count
        groups[#groups + 1] = {queue, got}
      end
    end
  end
  if queues > 1 and first >= 0 then
    local share = math.max(1, math.ceil(want / queues))
    for i = 0, queues - 1 do
      take((first + i) % queues, math.min(share, want - total))
    end
  end
  if total < want then
    first = math.max(first, 0)
    for i = 0, queues - 1 do
      take((first + i) % queues, want - total)
    end
  end
  for i = 1, 2 * total, 4000 do
    redis.call('HSET', KEYS[2], unpack(args, i, math.min(i + 3999, 2 * total)))
  end
elseif next_due then
  -- One of those who wait is to wake up for what is due next; the others a little later.
  local wait = math.floor((next_due - time) * 1000) + 50
  if
    redis.call('SET', KEYS[6], owner, 'NX', 'PX', math.max(wait, 1))
    or redis.call('GET', KEYS[6]) == owner
  then
    flags = flags + 8
  end
end
local answer = {1, next_due and string.format('%.6f', next_due - time) or '', flags, base}
for i = 1, #groups do
  answer[i + 4] = groups[i]
end
return answer
