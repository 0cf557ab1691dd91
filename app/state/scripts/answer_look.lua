-- An answer that is kept, or who is to ask for it.
-- KEYS: answer, leader.  ARGV: who looks, lease of a leader in ms, "1" to pass over what is kept.
-- Returns {"hit", answer}, {"lead"} where the caller is to ask, or {"wait", ms} while somebody else does.
if ARGV[3] ~= "1" then
  local answer = redis.call("GET", KEYS[1])
  if answer then
    return {"hit", answer}
  end
end
local leader = redis.call("GET", KEYS[2])
if leader and leader ~= ARGV[1] then
  return {"wait", redis.call("PTTL", KEYS[2])}
end
redis.call("SET", KEYS[2], ARGV[1], "PX", ARGV[2])
return {"lead"}
