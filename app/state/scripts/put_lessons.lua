-- Keeps what was learned in a scope, and forgets the oldest of what was learned there before.
-- KEYS: lessons (a hash), versions (a sorted set).  ARGV: version, JSON, how many to keep, the version that is in force ("" for none).
local time = redis.call("TIME")
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("ZADD", KEYS[2], string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
local over = redis.call("ZCARD", KEYS[2]) - ARGV[3]
for _, version in ipairs(redis.call("ZRANGE", KEYS[2], 0, -1)) do
  if over > 0 and version ~= ARGV[1] and version ~= ARGV[4] then
    redis.call("ZREM", KEYS[2], version)
    redis.call("HDEL", KEYS[1], version)
    over = over - 1
  end
end
return 1
