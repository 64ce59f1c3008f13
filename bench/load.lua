-- What wrk sends, and what it tells at its end. Arguments after "--": a file with one path a line,
-- and the first user to vote, or 0 where nobody does.

local heads, tails, count, user = {}, {}, 0, 0

function init(args)
  user = tonumber(args[2])
  math.randomseed(os.time() + user)
  local body = os.getenv("BENCH_BODY")
  for path in io.lines(args[1]) do
    count = count + 1
    if user == 0 then
      heads[count] = wrk.format("GET", path)
    else
      local whole = wrk.format("POST", path .. "&as_user_id=@", nil, body)
      local at = whole:find("@", 1, true)
      heads[count], tails[count] = whole:sub(1, at - 1), whole:sub(at + 1)
    end
  end
end

function request()
  local one = count == 1 and 1 or math.random(count)
  if user == 0 then
    return heads[one]
  end
  user = user + 1
  return heads[one] .. string.format("%d", user) .. tails[one]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, ' ..
    '"p50_ms": %.3f, "p99_ms": %.3f}',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
