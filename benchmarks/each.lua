-- wrk asks for each target of a file in turn.
local requests = {}
local at = 0

function init(arguments)
  for target in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", target)
  end
end

function request()
  at = at + 1
  return requests[(at - 1) % #requests + 1]
end
