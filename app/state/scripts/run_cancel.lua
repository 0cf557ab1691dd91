-- Asks the owner of a run to cancel it. Harmless where it has ended.
-- KEYS: record.  ARGV: beginning of the owners' channels, what to tell the owner.
-- Returns the status, or nothing where it is not stored.
local held = redis.call("HMGET", KEYS[1], "status", "owner")
if not held[1] or held[1] == "deleted" then
  return false
end
if held[1] == "running" then
  redis.call("HSET", KEYS[1], "cancel", "1")
  redis.call("PUBLISH", ARGV[1] .. held[2], ARGV[2])
end
return held[1]
