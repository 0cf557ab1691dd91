-- Takes over a run that somebody else ran, who has lost the right to it. From then on his writes are refused.
-- KEYS: record, events.  ARGV: new owner, lease in ms, ms to keep the record, ms to keep the events.
-- Returns {epoch, number of the last event}, or nothing where the run is not stored or has ended.
local held = redis.call("HMGET", KEYS[1], "status", "epoch", "last_seq")
if held[1] ~= "running" then
  return false
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = tonumber(held[2]) + 1
redis.call("HSET", KEYS[1], "owner", ARGV[1], "epoch", epoch, "lease_until", string.format("%.0f", now + ARGV[2]))
redis.call("PEXPIRE", KEYS[1], ARGV[3])
redis.call("PEXPIRE", KEYS[2], ARGV[4])
return {epoch, tonumber(held[3] or "0")}
