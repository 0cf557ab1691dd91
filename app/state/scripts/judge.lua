-- Writes the judgements of a run that is kept, unless they have changed since they were read.
-- KEYS: observed, feedback, unjudged, judged.  ARGV: run id, judgements as JSON, those that were read ("" for none), ms to keep.
-- Returns ok, missing (the run is not kept) or changed.
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 0 then
  return "missing"
end
local held = redis.call("HGET", KEYS[2], ARGV[1]) or ""
if held ~= ARGV[2] then
  if held ~= ARGV[3] then
    return "changed"
  end
  local time = redis.call("TIME")
  redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
  redis.call("ZADD", KEYS[4], string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
  redis.call("ZREM", KEYS[3], ARGV[1])
end
for _, key in ipairs(KEYS) do
  redis.call("PEXPIRE", key, ARGV[4])
end
return "ok"
