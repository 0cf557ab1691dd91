-- Keeps a signal that a run is sent, the first of its name, for as long as the run's record.
-- KEYS: record, signals.  ARGV: name, signal as JSON.
-- Returns {outcome, signal that is kept, digest of the request that has the run, or "queue"}: missing (nothing is stored of the
-- run), over (it has ended), there (one of that name was kept before) or new.
local held = redis.call("HMGET", KEYS[1], "status", "resumable", "queue")
local digest = held[3] and "queue" or held[2] or ""
if not held[1] or held[1] == "deleted" then
  return {"missing", "", ""}
end
local before = redis.call("HGET", KEYS[2], ARGV[1])
if before then
  return {"there", before, digest}
end
if held[1] ~= "queued" and held[1] ~= "running" and held[1] ~= "needs_approval" then
  return {"over", "", ""}
end
redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
local keep = redis.call("PTTL", KEYS[1])
if keep > 0 then
  redis.call("PEXPIRE", KEYS[2], keep)
end
return {"new", ARGV[2], digest}
