-- Takes over a run that waits, that somebody else ran, who has lost the right to it, or that was paused. From then on his writes
-- are refused.
-- KEYS: record, events.
-- ARGV: new owner, lease in ms, ms to keep the record, ms to keep the events, digest of the request that has it,
--       how many turns its conversation had ever had when it joined it now ("" where it is in none).
-- Returns {epoch, number of the last event, 1 if it was paused, so that nothing of it was under way, what had come of it when it
-- was last paused ("" if it never was), 1 if somebody wants it to end}, or nothing where the run is not stored or has ended.
local held = redis.call("HMGET", KEYS[1], "status", "epoch", "last_seq", "result", "paused", "cancel")
local paused = held[1] == "needs_approval"
if held[1] ~= "running" and held[1] ~= "queued" and not paused then
  return false
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = tonumber(held[2]) + 1
redis.call("HSET", KEYS[1], "status", "running", "owner", ARGV[1], "epoch", epoch,
  "lease_until", string.format("%.0f", now + ARGV[2]), "resumable", ARGV[5])
local before = held[5] or ""
if ARGV[6] ~= "" and not paused then
  redis.call("HSET", KEYS[1], "turns_seen", ARGV[6])
end
if paused then
  before = held[4]
  redis.call("HSET", KEYS[1], "paused", before)
  redis.call("HDEL", KEYS[1], "result")
end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
redis.call("PEXPIRE", KEYS[2], ARGV[4])
return {epoch, tonumber(held[3] or "0"), paused and 1 or 0, before, held[6] and 1 or 0}
