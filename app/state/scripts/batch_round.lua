-- Prepares another round of a batch that is over.
-- KEYS: batch, set of parts that are over.  ARGV: the round that was seen.
-- Returns the new round's number, also where its preparation broke off before; 0 where the batch is not over, or another round
-- has begun.
local held = redis.call("HMGET", KEYS[1], "status", "round")
if held[1] == "retrying" then
  return tonumber(held[2])
end
if (held[1] ~= "completed" and held[1] ~= "cancelled") or held[2] ~= ARGV[1] then
  return 0
end
redis.call("HSET", KEYS[1], "status", "retrying", "round", held[2] + 1)
redis.call("HDEL", KEYS[1], "cancel", "finished_at")
redis.call("DEL", KEYS[2])
return held[2] + 1
