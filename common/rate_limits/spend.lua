#!lua name=assay_limits_1
-- Counts one request against each key, in order; the first that is spent ends it, and it and those after it count nothing.
--
-- ARGV holds, for each key, how many are allowed and in how many seconds. The answer holds, for each key, four numbers:
-- how many are left (-1: refused), the counts of the earlier and of the running window, and the microseconds until the
-- running one ends. A key is "window earlier running"; it expires when neither window counts any more.

local function read(key, number)
  local kept = redis.call('GET', key)
  if not kept then
    return number, 0, 0
  end
  local at, earlier, running = string.match(kept, '^(%d+) (%d+) (%d+)$')
  at, earlier, running = tonumber(at), tonumber(earlier), tonumber(running)
  if at >= number then -- later than now: a server with a slower clock has taken over
    return at, earlier, running
  end
  return number, at == number - 1 and running or 0, 0
end

local function spend(keys, args)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local answer, refused = {}, false
  for i, key in ipairs(keys) do
    local limit, length = tonumber(args[2 * i - 1]), tonumber(args[2 * i]) * 1000000
    local number, earlier, running = read(key, math.floor(now / length))
    local ends_in = math.min((number + 1) * length - now, length)
    local left = limit - 1 - math.floor(earlier * ends_in / length) - running
    refused = refused or left < 0
    if refused then
      left = -1
    else
      running = running + 1
      local kept = string.format('%.0f %.0f %.0f', number, earlier, running)
      redis.call('SET', key, kept, 'PX', math.ceil((ends_in + length) / 1000))
    end
    for _, found in ipairs({left, earlier, running, ends_in}) do
      answer[#answer + 1] = found
    end
  end
  return answer
end

redis.register_function('assay_spend_1', spend)
