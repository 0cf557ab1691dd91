-- Removes what is stored of a request whose run is deleted. A mark stays for as long as the key would have been known, so that
-- it is not run again, and so that who may still run it stores nothing.
-- KEYS: record, body.  ARGV: run id.
-- Returns 1 when it was there, 0 where the key has meanwhile begun another run, or none.
if redis.call("HGET", KEYS[1], "run_id") ~= ARGV[1] then
  return 0
end
local left = redis.call("PTTL", KEYS[1])
redis.call("DEL", KEYS[1], KEYS[2])
redis.call("HSET", KEYS[1], "state", "deleted")
redis.call("PEXPIRE", KEYS[1], left)
return 1
