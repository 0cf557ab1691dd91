-- Writes one judgement of a run that is kept, beside those of other targets and in place of an earlier one of the same.
-- KEYS: observed, feedback, unjudged, judged.  ARGV: run id, target, judgement as JSON, its source, ms to keep.
-- Returns ok, missing (the run is not kept) or stands (a review of the same is there, and this is none); and what was there before.
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 0 then
  return {"missing", ""}
end
local held = redis.call("HGET", KEYS[2], ARGV[1]) or ""
local all = held ~= "" and cjson.decode(held) or {}
local before = all[ARGV[2]]
if before ~= ARGV[3] then
  if before and ARGV[4] ~= "review" and cjson.decode(before).source == "review" then
    return {"stands", held}
  end
  all[ARGV[2]] = ARGV[3]
  local time = redis.call("TIME")
  redis.call("HSET", KEYS[2], ARGV[1], cjson.encode(all))
  redis.call("ZADD", KEYS[4], string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
  redis.call("ZREM", KEYS[3], ARGV[1])
end
for _, key in ipairs(KEYS) do
  redis.call("PEXPIRE", key, ARGV[5])
end
return {"ok", held}
