-- Has wrk tell its totals as one line of JSON. With PAUSE, each connection rests for as many milliseconds in the mean before
-- each request, so that the load is a given rate and not the most that the proxy can do.
local pause = tonumber(os.getenv("PAUSE"))
if pause then
    function delay()
        return math.floor(-pause * math.log(1 - math.random()) + 0.5)
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests":%d,"seconds":%f,"p50_us":%f,"p99_us":%f,"failed":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
