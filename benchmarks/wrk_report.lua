-- Arguments after "--": method and bytes of body. The outcome is one line of JSON behind the word "outcome".
init = function(args)
  wrk.method = args[1] or "GET"
  local size = tonumber(args[2] or "0")
  if size > 0 then
    wrk.body = string.rep("x", size)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
  if wrk.headers["Host"] == nil then
    wrk.headers["Host"] = wrk.port and (wrk.host .. ":" .. wrk.port) or wrk.host
  end
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'outcome {"requests":%d,"microseconds":%d,"bytes":%d,' ..
    '"errors":{"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d},' ..
    '"latency_us":{"p50_ms":%d,"p90_ms":%d,"p99_ms":%d,"p999_ms":%d,"max_ms":%d}}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
