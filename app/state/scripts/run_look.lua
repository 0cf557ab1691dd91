-- How a run stands; also notes that somebody reads it.
-- KEYS: record.  ARGV: reading ("1" or "0").
-- Returns {status, epoch, ms left of the owner's lease, number of the last event, who is to go on with it where its owner dies:
-- 0 nobody, 1 who finds its request, 2 the queue}, or nothing where it is not stored.
local held = redis.call("HMGET", KEYS[1], "status", "epoch", "lease_until", "last_seq", "resumable", "queue")
if not held[1] or held[1] == "deleted" then
  return false
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == "1" and held[1] == "running" then
  redis.call("HSET", KEYS[1], "read_at", string.format("%.0f", now))
end
return {held[1], held[2], tonumber(held[3] or "0") - now, tonumber(held[4] or "0"), held[6] and 2 or held[5] and 1 or 0}
