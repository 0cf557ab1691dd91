-- Removes every version of a workflow and tells every process. Its number stays, so that none means something else later.
-- KEYS: records, names, numbers (of the tenant), tenants, version, changes.
-- ARGV: tenant, name, channel, changes to keep, numbers of removed names to keep.
-- Returns 1 when it was there, 0 otherwise.
local name = ARGV[2]
local kept = redis.call("HGET", KEYS[2], name)
if not kept then
  return 0
end
local used = tonumber(redis.call("HGET", KEYS[4], ARGV[1]) or 0)
for _, version in ipairs(cjson.decode(kept)) do
  redis.call("HDEL", KEYS[1], string.format("%s@%d", name, version[1]))
  used = used - version[2]
end
redis.call("HDEL", KEYS[2], name)
redis.call("HSET", KEYS[4], ARGV[1], used)
if redis.call("HLEN", KEYS[3]) - redis.call("HLEN", KEYS[2]) > tonumber(ARGV[5]) then
  -- The numbers of removed names are forgotten: the greatest of them is where new names begin.
  local numbers, greatest = redis.call("HGETALL", KEYS[3]), 0
  for i = 1, #numbers, 2 do
    if redis.call("HEXISTS", KEYS[2], numbers[i]) == 0 then
      greatest = math.max(greatest, tonumber(numbers[i + 1]))
      redis.call("HDEL", KEYS[3], numbers[i])
    end
  end
  redis.call("HSET", KEYS[3], "*", greatest)
end
local time, version = redis.call("TIME"), redis.call("INCR", KEYS[5])
local id = string.format("%d-%.0f", version, time[1] * 1000000 + time[2])
redis.call("XADD", KEYS[6], "MAXLEN", "~", ARGV[4], id, "of", ARGV[1] .. ":" .. name)
redis.call("PUBLISH", ARGV[3], version)
return 1
