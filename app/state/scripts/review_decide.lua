-- Decides a review, once.
-- KEYS: entries, decisions, pending, decided.  ARGV: review id, decision as JSON, operation.
-- Returns {outcome, entry, decision}: missing, decided (by another operation, with its decision) or ok.
local entry = redis.call("HGET", KEYS[1], ARGV[1])
if not entry then
  return {"missing"}
end
local held = redis.call("HGET", KEYS[2], ARGV[1])
if held then
  return {cjson.decode(held).operation == ARGV[3] and "ok" or "decided", entry, held}
end
redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
redis.call("ZADD", KEYS[4], redis.call("ZSCORE", KEYS[3], ARGV[1]), ARGV[1])
redis.call("ZREM", KEYS[3], ARGV[1])
local left = redis.call("PTTL", KEYS[1])
if left > 0 then
  redis.call("PEXPIRE", KEYS[2], left)
  redis.call("PEXPIRE", KEYS[4], left)
end
return {"ok", entry, ARGV[2]}
