-- Marks an API key revoked, once, and tells every process.
-- KEYS: records, revoked, version.  ARGV: key id, time in seconds, channel.
-- Returns 1 when the key exists (revoked now or before), 0 otherwise.
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 0 then
  return 0
end
if redis.call("HSETNX", KEYS[2], ARGV[1], ARGV[2]) == 1 then
  redis.call("PUBLISH", ARGV[3], redis.call("INCR", KEYS[3]))
end
return 1
