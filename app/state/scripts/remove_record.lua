-- Removes one record of a registry and tells every process.
-- KEYS: records, version.  ARGV: field, channel.
-- Returns 1 when it was there, 0 otherwise.
if redis.call("HDEL", KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call("PUBLISH", ARGV[2], redis.call("INCR", KEYS[2]))
return 1
