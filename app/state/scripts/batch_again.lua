-- Forgets the failed lines of a part of a batch that is over, so that they are run again.
-- KEYS: batch, results of the part.  ARGV: what the result of a failed line begins with, lines that the part has, the round that
-- is being prepared.
-- Returns how many lines are to be run: those, and those that never were. -1 where that round is not being prepared (any more).
local held = redis.call("HMGET", KEYS[1], "status", "round")
if held[1] ~= "retrying" or held[2] ~= ARGV[3] then
  return -1
end
local found = redis.call("HGETALL", KEYS[2])
local failed, kept = 0, 0
for i = 1, #found, 2 do
  if string.sub(found[i + 1], 1, #ARGV[1]) == ARGV[1] then
    redis.call("HDEL", KEYS[2], found[i])
    failed = failed + 1
  else
    kept = kept + 1
  end
end
if failed > 0 then
  redis.call("HINCRBY", KEYS[1], "failed", -failed)
end
return tonumber(ARGV[2]) - kept
