-- Results: a final one never gives way.

local READY = {SUCCESS = true, FAILURE = true, REVOKED = true}

-- Whether a stored record says a final state.  Records are JSON as a rule; of other
-- serializers the first longer word in capitals after "status" is the state.
local function is_final(value)
  if string.sub(value, 1, 1) == '{' then
    local ok, meta = pcall(cjson.decode, value)
    if ok and type(meta) == 'table' then
      return READY[meta.status] or false
    end
  end
  for word in string.gmatch(string.match(value, 'status(.*)$') or '', '%u+') do
    if #word > 3 then
      return READY[word] or false
    end
  end
  return false
end

-- Stores a record (ttl in ms, '0' for none), unless a final one stands, and tells who
-- waits.
local function keep(key, payload, ttl)
  local fresh
  if ttl == '0' then
    fresh = redis.call('SET', key, payload, 'NX')
  else
    fresh = redis.call('SET', key, payload, 'NX', 'PX', ttl)
  end
  if not fresh then
    local value = redis.pcall('GET', key)
    if type(value) == 'string' and is_final(value) then
      return
    end
    if ttl == '0' then
      redis.call('SET', key, payload)
    else
      redis.call('SET', key, payload, 'PX', ttl)
    end
  end
  redis.call('PUBLISH', key, payload)
end
