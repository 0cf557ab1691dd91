-- Decides what becomes of a request with an idempotency key.
-- Safe to repeat with the same operation: who has begun is told so again, what was dropped stays dropped.
-- KEYS: record, body.
-- ARGV: fingerprint ("" for a sweeper, who begins nothing new), operation, lease in ms, ms to keep, the request, run id.
-- Returns {"run", epoch, run id, request, ms that it has waited}, {"done", head, scope}, {"paused", head, scope, run id},
-- {"busy", ms left of the lease}, {"other"}, {"absent"} or {"deleted"}.
local held = redis.call("HMGET", KEYS[1], "state", "fingerprint", "epoch", "lease_until", "operation", "run_id", "request",
  "paused_at", "waited")
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = string.format("%.0f", now + ARGV[3])
if held[1] == "deleted" then
  return {"deleted"}
end
if not held[1] or held[1] == "dropped" then
  if ARGV[1] == "" or held[5] == ARGV[2] then
    return {"absent"}
  end
  redis.call("DEL", KEYS[1], KEYS[2])
  redis.call("HSET", KEYS[1], "state", "running", "fingerprint", ARGV[1], "operation", ARGV[2], "epoch", 1,
    "lease_until", lease, "request", ARGV[5], "run_id", ARGV[6])
  redis.call("PEXPIRE", KEYS[1], ARGV[4])
  return {"run", 1, ARGV[6], ARGV[5], 0}
end
if ARGV[1] ~= "" and held[2] ~= ARGV[1] then
  return {"other"}
end
if held[1] == "done" then
  local done = redis.call("HMGET", KEYS[1], "head", "scope")
  return {"done", done[1], done[2] or ""}
end
local epoch, waited = tonumber(held[3]), tonumber(held[9] or "0")
if held[5] ~= ARGV[2] then
  local left = tonumber(held[4]) - now
  if left > 0 and held[1] == "paused" and ARGV[1] ~= "" then
    local paused = redis.call("HMGET", KEYS[1], "head", "scope")
    return {"paused", paused[1] or "", paused[2] or "", held[6]}
  end
  if left > 0 then
    return {"busy", left}
  end
  epoch = epoch + 1
  if held[1] == "paused" then
    waited = waited + now - tonumber(held[8])
    redis.call("HSET", KEYS[1], "state", "running", "waited", string.format("%.0f", waited))
  end
  redis.call("DEL", KEYS[2])
  redis.call("HDEL", KEYS[1], "head", "chunks")
end
redis.call("HSET", KEYS[1], "operation", ARGV[2], "epoch", epoch, "lease_until", lease)
redis.call("PEXPIRE", KEYS[1], ARGV[4])
return {"run", epoch, held[6], held[7], waited}
