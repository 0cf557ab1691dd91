-- Ends a run that waits or is paused: a last event, and the result that goes with it.
-- KEYS: record, events.
-- ARGV: the epoch that was seen, the event's type, its JSON before and after its number, status, result, ms to keep the events.
-- Returns 1 when this call ended it, 0 where it has ended, or somebody goes on with it.
local held = redis.call("HMGET", KEYS[1], "status", "epoch", "last_seq")
if (held[1] ~= "needs_approval" and held[1] ~= "queued") or held[2] ~= ARGV[1] then
  return 0
end
local seq = string.format("%.0f", tonumber(held[3] or "0") + 1)
redis.call("XADD", KEYS[2], seq .. "-0", "t", ARGV[2], "d", ARGV[3] .. seq .. ARGV[4])
redis.call("HSET", KEYS[1], "status", ARGV[5], "owner", "", "epoch", held[2] + 1, "last_seq", seq, "result", ARGV[6],
  "finished_at", redis.call("TIME")[1])
redis.call("HDEL", KEYS[1], "paused", "began_with")
redis.call("PEXPIRE", KEYS[2], ARGV[7])
return 1
