-- wrk posts the JSON of a file again and again.
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = "application/json"
  file:close()
  request_text = wrk.format()
end

function request()
  return request_text
end
