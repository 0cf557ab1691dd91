-- Writes one record of a registry and tells every process.
-- KEYS: records, version.  ARGV: field, record, channel, replace ("1" or "0").
-- Returns 1 when written, 0 when the field is taken and may not be replaced.
if ARGV[4] == "0" and redis.call("HEXISTS", KEYS[1], ARGV[1]) == 1 then
  return 0
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("PUBLISH", ARGV[3], redis.call("INCR", KEYS[2]))
return 1
