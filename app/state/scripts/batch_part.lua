-- Notes that a part of a batch has been begun, or is over, once; the last one ends the batch.
-- KEYS: batch, set of parts that are over, what the part's lines used.  ARGV: number of the part, round, 1 when it is over, ms to keep the batch and the set.
-- Returns {1 when it is to be cancelled, 1 when this ended the batch}, or nothing where the batch is not there, or the round is
-- not its present one.
local held = redis.call("HMGET", KEYS[1], "status", "cancel", "parts", "round")
if not held[1] or held[4] ~= ARGV[2] then
  return false
end
local time = redis.call("TIME")[1]
if held[1] == "queued" then
  redis.call("HSET", KEYS[1], "status", "running", "started_at", time)
end
redis.call("PEXPIRE", KEYS[1], ARGV[4])
if ARGV[3] ~= "1" then
  return {held[2] and 1 or 0, 0}
end
redis.call("DEL", KEYS[3])
redis.call("SADD", KEYS[2], ARGV[1])
redis.call("PEXPIRE", KEYS[2], ARGV[4])
if redis.call("SCARD", KEYS[2]) < tonumber(held[3]) then
  return {held[2] and 1 or 0, 0}
end
if held[1] == "completed" or held[1] == "cancelled" then
  return {0, 1}
end
redis.call("HSET", KEYS[1], "status", held[2] and "cancelled" or "completed", "finished_at", time)
return {0, 1}
