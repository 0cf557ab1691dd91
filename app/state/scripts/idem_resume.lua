-- Has a request that waits be gone on with: whoever looks next may take it. Harmless to repeat.
-- KEYS: record.
-- Returns "due" where it waits and may be taken now, "busy" where somebody runs it, "over" where there is nothing to go on with.
local state = redis.call("HGET", KEYS[1], "state")
if state == "paused" then
  redis.call("HSET", KEYS[1], "lease_until", 0)
  return "due"
end
return state == "running" and "busy" or "over"
