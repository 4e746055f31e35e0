-- Takes the message that came to an inbox while its owner waited.
-- KEYS: owners, held, seq, revoked, then lists, then their inboxes in the same order
-- ARGV: owner, lists, which of them (from 1), its "step\nqueue\n", its queue's index
-- Answer: as fetch.lua's
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return {0, '', 0, 0}
end
local lists = tonumber(ARGV[2])
local flags = redis.call('EXISTS', KEYS[4]) * 2
-- All that may fail comes before the message leaves its inbox.
redis.call('HLEN', KEYS[2])
-- A server without memory refuses a script only before its first write, and this one it
-- never refuses.
redis.call('ZREM', KEYS[1], '')
local tag = redis.call('INCRBY', KEYS[3], 1)
local payload = redis.call('LPOP', KEYS[4 + lists + tonumber(ARGV[3])])
if payload then
  redis.call('HSET', KEYS[2], string.format('%.0f', tag), ARGV[4] .. payload)
end
if redis.call('EXISTS', unpack(KEYS, 5, 4 + 2 * lists)) > 0 then
  flags = flags + 16
  -- What else came here goes back to where others may take it.
  for i = 5, 4 + lists do
    repeat
      local moved = redis.pcall('LMOVE', KEYS[i + lists], KEYS[i], 'LEFT', 'RIGHT')
    until not moved or type(moved) == 'table'
  end
end
local answer = {1, '', flags, tag}
if payload then
  answer[5] = {tonumber(ARGV[5]), {payload}}
end
return answer
