-- Begins the round of a batch that was prepared, once its parts are in the queue; with nothing to run it ends at once.
-- KEYS: batch, set of parts that are over.  ARGV: the round, ms to keep the set, how many parts are to be run, who wants it, then the
-- parts that have nothing to run.
-- Returns 1, or 0 where that round is not being prepared.
local held = redis.call("HMGET", KEYS[1], "status", "round")
if held[1] ~= "retrying" or held[2] ~= ARGV[1] then
  return 0
end
redis.call("HSET", KEYS[1], "sealed", ARGV[4])
for i = 5, #ARGV do
  redis.call("SADD", KEYS[2], ARGV[i])
end
redis.call("PEXPIRE", KEYS[2], ARGV[2])
if ARGV[3] == "0" then
  redis.call("HSET", KEYS[1], "status", "completed", "finished_at", redis.call("TIME")[1])
else
  redis.call("HSET", KEYS[1], "status", "queued")
end
return 1
