-- Adds to records that fade with time, and drops those that were added to longest ago where there are too many.
-- KEYS: records (a hash), seen (a sorted set), told (what the sender has told last).
-- ARGV: number of the batch, half-life in ms, records to keep, ms to keep them all, then field, JSON of name -> amount of each.
-- A record is {at, n}: n holds what it was worth at that time (ms). A batch that was told already is not added again.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call("GET", KEYS[3]) == ARGV[1] then
  return 0
end
for i = 5, #ARGV, 2 do
  local held = redis.call("HGET", KEYS[1], ARGV[i])
  local record = held and cjson.decode(held) or {at = now, n = {}}
  local share = 0.5 ^ (math.max(0, now - record.at) / ARGV[2])
  local n = {}
  for name, value in pairs(record.n) do
    value = value * share
    if math.abs(value) > 0.001 then
      n[name] = value
    end
  end
  for name, value in pairs(cjson.decode(ARGV[i + 1])) do
    n[name] = (n[name] or 0) + value
  end
  redis.call("HSET", KEYS[1], ARGV[i], cjson.encode({at = now, n = n}))
  redis.call("ZADD", KEYS[2], string.format("%.0f", now), ARGV[i])
end
local over = redis.call("ZCARD", KEYS[2]) - ARGV[3]
if over > 0 then
  for _, field in ipairs(redis.call("ZRANGE", KEYS[2], 0, over - 1)) do
    redis.call("HDEL", KEYS[1], field)
    redis.call("ZREM", KEYS[2], field)
  end
end
redis.call("SET", KEYS[3], ARGV[1], "PX", 600000)
redis.call("PEXPIRE", KEYS[1], ARGV[4])
redis.call("PEXPIRE", KEYS[2], ARGV[4])
return 1
