-- Puts runs into a tenant's review queue, and drops those that are too old or too many.
-- KEYS: entries, decisions, pending, decided.
-- ARGV: entries to keep, ms to keep them, then review id, time it came in microseconds, JSON of each.
for i = 3, #ARGV, 3 do
  if redis.call("HSETNX", KEYS[1], ARGV[i], ARGV[i + 2]) == 1 then
    redis.call("ZADD", KEYS[3], ARGV[i + 1], ARGV[i])
  end
end
local function drop(index, ids)
  if #ids > 0 then
    redis.call("ZREM", index, unpack(ids))
    redis.call("HDEL", KEYS[1], unpack(ids))
    redis.call("HDEL", KEYS[2], unpack(ids))
  end
end
local time = redis.call("TIME")
local oldest = string.format("%.0f", time[1] * 1000000 + time[2] - ARGV[2] * 1000)
for number = 3, 4 do
  drop(KEYS[number], redis.call("ZRANGEBYSCORE", KEYS[number], "-inf", oldest, "LIMIT", 0, 1000))
end
for number = 4, 3, -1 do
  local over = redis.call("HLEN", KEYS[1]) - ARGV[1]
  if over > 0 then
    drop(KEYS[number], redis.call("ZRANGE", KEYS[number], 0, math.min(over, 1000) - 1))
  end
end
for _, key in ipairs(KEYS) do
  redis.call("PEXPIRE", key, ARGV[2])
end
return 1
