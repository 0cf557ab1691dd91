-- Decides an approval, once, before it expires. Where it was the last that its run waited for, the run is ready to go on.
-- Safe to repeat with the same operation.
-- KEYS: entries, decisions, pending, decided, expiries, ready, approvals of the run.
-- ARGV: id, decision as JSON, operation, run id, the digest of the run's request.
-- Returns {outcome, entry, ms of its expiry, decision, 1 if the run may go on}: missing, decided (by another operation),
-- expired or ok.
local id = ARGV[1]
local entry = redis.call("HGET", KEYS[1], id)
if not entry then
  return {"missing"}
end
local expires = tonumber(redis.call("HGET", KEYS[5], id))
local held = redis.call("HGET", KEYS[2], id)
if held then
  local same = cjson.decode(held).operation == ARGV[3]
  return {same and "ok" or "decided", entry, expires, held, redis.call("HEXISTS", KEYS[6], ARGV[4])}
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if expires <= now then
  return {"expired", entry, expires, "", 0}
end
redis.call("HSET", KEYS[2], id, ARGV[2])
redis.call("ZADD", KEYS[4], redis.call("ZSCORE", KEYS[3], id), id)
redis.call("ZREM", KEYS[3], id)
local left = 0
for _, other in ipairs(redis.call("SMEMBERS", KEYS[7])) do
  if redis.call("HEXISTS", KEYS[2], other) == 0 and tonumber(redis.call("HGET", KEYS[5], other) or "0") > now then
    left = left + 1
  end
end
if left == 0 then
  redis.call("HSET", KEYS[6], ARGV[4], ARGV[5])
end
local keep = redis.call("PTTL", KEYS[1])
for _, key in ipairs({KEYS[2], KEYS[4], KEYS[6]}) do
  redis.call("PEXPIRE", key, keep)
end
return {"ok", entry, expires, ARGV[2], left == 0 and 1 or 0}
