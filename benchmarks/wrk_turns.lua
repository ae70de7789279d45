-- Requests that differ: one after the other from a file with a line for each, its target and one more header, a tab between.
-- Arguments after "--" as in wrk_report.lua, then that file, how many threads there are, and how far a turn goes on.
dofile(debug.getinfo(1, "S").source:match("^@(.*)wrk_turns%.lua$") .. "wrk_report.lua")

local threads = 0
setup = function(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local prepare = init
local requests, turn, step = {}, 0, 1
init = function(args)
  prepare(args)
  for line in io.lines(args[3]) do
    local target, name, value = line:match("^([^\t]*)\t([^:]*):?%s*(.*)$")
    local headers = {}
    for known, it in pairs(wrk.headers) do headers[known] = it end
    if name ~= "" then headers[name] = value end
    requests[#requests + 1] = wrk.format(nil, target, headers)
  end
  turn = math.floor(number * #requests / tonumber(args[4]))  -- so that threads ask for different things
  step = tonumber(args[5])
end

request = function()
  turn = (turn + step) % #requests
  return requests[turn + 1]
end
