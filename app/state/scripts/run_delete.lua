-- Removes all that is stored of a run. A mark stays for a while, so that its owner, if it still runs, does not store it again.
-- KEYS: record, events, steps, signals.  ARGV: ms that the mark stays.
-- Returns 1 when it was there, 0 otherwise.
local status = redis.call("HGET", KEYS[1], "status")
if not status or status == "deleted" then
  return 0
end
redis.call("DEL", KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call("HSET", KEYS[1], "status", "deleted")
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return 1
