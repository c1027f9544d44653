-- Small requests for wrk: METHOD SIZE TARGETS_FILE [once], given behind "--".
-- With "once" every target is used a single time and the run ends when they are used up.
-- wrk always waits for its whole duration, so the time that counts is taken here.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } bench_time;
int clock_gettime(int clock, bench_time *now);
]]
local now = ffi.new("bench_time")
local CLOCK_MONOTONIC = 1

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local method, size, once = args[1], tonumber(args[2]), args[4] == "once"
  local tail
  targets, next_target, single = {}, 0, once
  for line in io.lines(args[3]) do
    targets[#targets + 1] = line
  end
  first, last = 0, 0
  local host = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
  if method == "PUT" then
    local body = string.rep("0123456789abcdef", size / 16)
    tail = host .. "\r\nContent-Type: application/octet-stream\r\nContent-Length: " .. size .. "\r\n\r\n" .. body
  else
    tail = host .. "\r\n\r\n"
  end
  start, rest = method .. " ", tail
end

function request()
  next_target = next_target + 1
  -- The very first call is wrk's own check before the run: it is not sent.
  if next_target > 1 then
    ffi.C.clock_gettime(CLOCK_MONOTONIC, now)
    last = tonumber(now.seconds) + tonumber(now.nanoseconds) / 1e9
    if next_target == 2 then first = last end
  end
  if next_target >= #targets and single then
    wrk.thread:stop()
    return start .. targets[#targets] .. rest
  end
  return start .. targets[(next_target - 1) % #targets + 1] .. rest
end

function done(summary, latency, _)
  local seconds = threads[1]:get("last") - threads[1]:get("first")
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "p50": %.4f, "p99": %.4f, "max": %.4f, "status": %d, "broken": %d}\n',
    summary.requests, seconds, latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
