-- An answer that is kept, or who is to ask for it.
-- KEYS: answer, leader.  ARGV: who looks, lease of a leader in ms, "1" to pass over what is kept, but for what this leader
-- has got ("" for none). A kept answer begins with the 16 characters of the leader who got it.
-- Returns {"hit", answer}, {"lead"} where the caller is to ask, or {"wait", leader} while somebody else does.
local answer = redis.call("GET", KEYS[1])
if answer and (ARGV[3] ~= "1" or answer:sub(1, 16) == ARGV[4]) then
  return {"hit", answer:sub(17)}
end
local leader = redis.call("GET", KEYS[2])
if leader and leader ~= ARGV[1] then
  return {"wait", leader}
end
redis.call("SET", KEYS[2], ARGV[1], "PX", ARGV[2])
return {"lead"}
