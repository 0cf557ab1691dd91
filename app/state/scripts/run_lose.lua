-- Ends a run whose owner has let its lease pass: a last event, and the result that goes with it.
-- KEYS: record, events.
-- ARGV: the epoch that was seen, the number that a reader has come to, the event's type, its JSON before and after its number,
--       result, ms to keep the events.
-- Returns 1 when this call ended it, 0 where it has ended, was taken over, or its owner lives.
local held = redis.call("HMGET", KEYS[1], "status", "epoch", "lease_until", "last_seq")
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if held[1] ~= "running" or held[2] ~= ARGV[1] or tonumber(held[3] or "0") > now then
  return 0
end
local seq = string.format("%.0f", math.max(tonumber(held[4] or "0"), tonumber(ARGV[2])) + 1)
redis.call("XADD", KEYS[2], seq .. "-0", "t", ARGV[3], "d", ARGV[4] .. seq .. ARGV[5])
redis.call("HSET", KEYS[1], "status", "failed", "owner", "", "epoch", held[2] + 1, "last_seq", seq, "result", ARGV[6],
  "finished_at", time[1])
redis.call("HDEL", KEYS[1], "paused", "began_with")
redis.call("PEXPIRE", KEYS[2], ARGV[7])
return 1
