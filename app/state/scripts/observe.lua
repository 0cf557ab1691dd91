-- Keeps runs to learn from, and drops those that are too old or too many.
-- Those of one batch are in their order.
-- KEYS: observed, feedback, unjudged, judged.  ARGV: runs to keep of each index, ms to keep them, then run id, JSON of each.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #ARGV, 2 do
  redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
  if not redis.call("ZSCORE", KEYS[4], ARGV[i]) then
    redis.call("ZADD", KEYS[3], string.format("%.3f", now + i / 1000), ARGV[i])
  end
end
for number = 3, 4 do
  local index = KEYS[number]
  local gone = redis.call("ZRANGEBYSCORE", index, "-inf", string.format("%.0f", now - ARGV[2]), "LIMIT", 0, 1000)
  local over = redis.call("ZCARD", index) - #gone - ARGV[1]
  if over > 0 then
    gone = redis.call("ZRANGE", index, 0, #gone + math.min(over, 1000) - 1)
  end
  if #gone > 0 then
    redis.call("ZREM", index, unpack(gone))
    redis.call("HDEL", KEYS[1], unpack(gone))
    redis.call("HDEL", KEYS[2], unpack(gone))
  end
end
for _, key in ipairs(KEYS) do
  redis.call("PEXPIRE", key, ARGV[2])
end
return 1
