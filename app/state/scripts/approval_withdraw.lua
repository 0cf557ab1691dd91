-- Withdraws what a run waits for: it has ended.  Harmless where nothing is pending.
-- KEYS: entries, decisions, pending, decided, expiries, ready, approvals of the run.  ARGV: run id, decision as JSON.
-- Returns how many were withdrawn.
local count = 0
redis.call("HDEL", KEYS[6], ARGV[1])
for _, id in ipairs(redis.call("SMEMBERS", KEYS[7])) do
  local at = redis.call("ZSCORE", KEYS[3], id)
  if at then
    redis.call("HSET", KEYS[2], id, ARGV[2])
    redis.call("ZADD", KEYS[4], at, id)
    redis.call("ZREM", KEYS[3], id)
    count = count + 1
  end
end
local keep = redis.call("PTTL", KEYS[1])
if count > 0 and keep > 0 then
  redis.call("PEXPIRE", KEYS[2], keep)
  redis.call("PEXPIRE", KEYS[4], keep)
end
return count
