-- Stores another version of a workflow, drops the oldest beyond those that are kept, and tells every process.
-- KEYS: records, names, numbers (of the tenant), tenants, version, changes.
-- ARGV: tenant, name, channel, changes to keep, record, bytes of the definition,
--   the most names, versions of a name, and bytes that the tenant may have.
-- Returns {"stored", its number}, or what there are too many of: {"names", how many} or {"bytes", how many}.
local name, size = ARGV[2], tonumber(ARGV[6])
local kept = redis.call("HGET", KEYS[2], name)
local names = redis.call("HLEN", KEYS[2])
if not kept and names >= tonumber(ARGV[7]) then
  return {"names", names}
end
kept = kept and cjson.decode(kept) or {}
local used = tonumber(redis.call("HGET", KEYS[4], ARGV[1]) or 0)
local after, dropped = used + size, {}
while #kept >= tonumber(ARGV[8]) do
  local oldest = table.remove(kept, 1)
  after = after - oldest[2]
  table.insert(dropped, string.format("%s@%d", name, oldest[1]))
end
if after > tonumber(ARGV[9]) then
  return {"bytes", used}
end
-- "*" is what new names begin after, since some of them may be forgotten ones; no name is called so.
local numbers = redis.call("HMGET", KEYS[3], name, "*")
local number = 1 + tonumber(numbers[1] or numbers[2] or 0)
table.insert(kept, {number, size})
redis.call("HSET", KEYS[3], name, number)
redis.call("HSET", KEYS[2], name, cjson.encode(kept))
redis.call("HSET", KEYS[1], string.format("%s@%d", name, number), ARGV[5])
redis.call("HSET", KEYS[4], ARGV[1], after)
if #dropped > 0 then
  redis.call("HDEL", KEYS[1], unpack(dropped))
end
local time, version = redis.call("TIME"), redis.call("INCR", KEYS[5])
local id = string.format("%d-%.0f", version, time[1] * 1000000 + time[2])
redis.call("XADD", KEYS[6], "MAXLEN", "~", ARGV[4], id, "of", ARGV[1] .. ":" .. name)
redis.call("PUBLISH", ARGV[3], version)
return {"stored", number}
