-- Asks for an approval, or learns what became of it. The run is at work: it need not be woken.
-- KEYS: entries, decisions, pending, decided, expiries, ready, approvals of the run.
-- ARGV: id, entry as JSON, ms until it expires, ms to keep it beyond that, run id, decision as JSON where it has expired.
-- Returns {1 if it is new, ms of its expiry, entry, decision ("" while it is pending), 1 if this call found it expired}, or
-- nothing where the run was deleted.
local id = ARGV[1]
if redis.call("SISMEMBER", KEYS[7], "deleted") == 1 then
  return false
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call("HDEL", KEYS[6], ARGV[5])
local new = redis.call("HSETNX", KEYS[1], id, ARGV[2])
if new == 1 then
  redis.call("HSET", KEYS[5], id, string.format("%.0f", now + ARGV[3]))
  redis.call("ZADD", KEYS[3], string.format("%.0f", time[1] * 1000000 + time[2]), id)
  redis.call("SADD", KEYS[7], id)
  local keep = tonumber(ARGV[3]) + tonumber(ARGV[4])
  local oldest = string.format("%.0f", (now - keep) * 1000)
  for number = 3, 4 do
    local old = redis.call("ZRANGEBYSCORE", KEYS[number], "-inf", oldest, "LIMIT", 0, 1000)
    if #old > 0 then
      redis.call("ZREM", KEYS[number], unpack(old))
      redis.call("HDEL", KEYS[1], unpack(old))
      redis.call("HDEL", KEYS[2], unpack(old))
      redis.call("HDEL", KEYS[5], unpack(old))
    end
  end
  for _, key in ipairs(KEYS) do
    if redis.call("PTTL", key) < keep then
      redis.call("PEXPIRE", key, keep)
    end
  end
end
local expires = tonumber(redis.call("HGET", KEYS[5], id))
local decision = redis.call("HGET", KEYS[2], id)
local expired = 0
if not decision and expires <= now then
  decision, expired = ARGV[6], 1
  redis.call("HSET", KEYS[2], id, decision)
  redis.call("ZADD", KEYS[4], redis.call("ZSCORE", KEYS[3], id), id)
  redis.call("ZREM", KEYS[3], id)
  redis.call("PEXPIRE", KEYS[2], redis.call("PTTL", KEYS[1]))
  redis.call("PEXPIRE", KEYS[4], redis.call("PTTL", KEYS[1]))
end
return {new, expires, redis.call("HGET", KEYS[1], id), decision or "", expired}
