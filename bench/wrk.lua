-- Sends the stream of bench/stream.py and prints what came of it as one JSON line that starts with RESULT.
-- Arguments after "--": stream file, file with the head of a request, tag, first position, first day (epoch seconds),
-- number of days. One thread only: positions would repeat.
local templates, count = {}, 0
local dates, last_day = {}, 0
local tag, position
local ID_START, TIME_START = '{"transaction_id":"', '","event_time":"'
local DAY_S = 86400

function init(args)
  local stream_path, head_path = args[1], args[2]
  tag, position = args[3], tonumber(args[4])
  local first_day, days = tonumber(args[5]), tonumber(args[6])
  local head = io.open(head_path, "rb"):read("*a")
  for day = -1, days + 1 do dates[day] = os.date("!%Y-%m-%d", first_day + day * DAY_S) end
  last_day = days
  local id_length = #tag + 1 + 10
  local heads = {}
  local is_first = true
  for line in io.lines(stream_path) do
    if is_first then
      is_first = false
    else
      local day, rest, after = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)$")
      local length = #ID_START + id_length + #TIME_START + 10 + #rest + #after
      if after ~= "" then length = length + 2 end
      if not heads[length] then heads[length] = head .. length .. "\r\n\r\n" .. ID_START .. tag .. "-" end
      count = count + 1
      templates[count] = { heads[length], tonumber(day), rest, after }
    end
  end
end

function request()
  local cycle = math.floor(position / count)
  local template = templates[position - cycle * count + 1]
  local day = (cycle < last_day and cycle or last_day) + template[2]
  local id = string.format("%010d", position)
  position = position + 1
  if template[4] == "" then return template[1] .. id .. TIME_START .. dates[day] .. template[3] end
  return template[1] .. id .. TIME_START .. dates[day] .. template[3] .. string.format("%02d", cycle % 100) .. template[4]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"answers": %d, "refused": %d, "timeouts": %d, "broken": %d, "seconds": %.6f, ' ..
    '"p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, errors.status, errors.timeout, errors.connect + errors.read + errors.write,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3))
end
