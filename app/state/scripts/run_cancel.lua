-- Asks the owner of a run to cancel it. Harmless where it has ended.
-- KEYS: record.  ARGV: beginning of the owners' channels, what to tell the owner.
-- Returns "", or nothing where it is not stored; of a paused run that ends itself the digest of the request that has it, or "queue".
local held = redis.call("HMGET", KEYS[1], "status", "owner", "ends_itself", "resumable", "queue")
if not held[1] or held[1] == "deleted" then
  return false
end
if held[1] == "running" then
  redis.call("HSET", KEYS[1], "cancel", "1")
  redis.call("PUBLISH", ARGV[1] .. held[2], ARGV[2])
elseif held[1] == "needs_approval" and held[3] and held[4] then
  redis.call("HSET", KEYS[1], "cancel", "1")
  return held[5] and "queue" or held[4]
end
return ""
