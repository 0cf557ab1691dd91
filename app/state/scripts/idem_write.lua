-- What who runs a request tells of it: that it lives, the pieces of its answer, its end. Refused to who has lost it.
-- Safe to repeat: pieces that are there are not added again.
-- KEYS: record, body.
-- ARGV: operation that began it, epoch, lease in ms, ms to keep, the answer's head ("" for none yet), scope that its reader
--       needs, end ("" while it goes on, "keep", "drop", "pause": the lease is how long it waits), number of the first piece,
--       fingerprint ("" unless it is to be recorded again), the request, run id, ms that the mark of a drop stays, pieces.
-- Returns "ok", "lost", or "missing": the store has lost the record, or pieces before these. Then all is to be told again.
local held = redis.call("HMGET", KEYS[1], "state", "operation", "epoch", "chunks")
if held[1] == "deleted" then
  return "ok"
end
local drop, first = ARGV[7] == "drop", tonumber(ARGV[8])
if held[1] and (held[2] ~= ARGV[1] or held[3] ~= ARGV[2] or (held[1] == "dropped" and not drop)) then
  return "lost"
end
if held[1] == "done" or held[1] == "paused" then
  return "ok"
end
if drop then
  redis.call("DEL", KEYS[1], KEYS[2])
  redis.call("HSET", KEYS[1], "state", "dropped", "operation", ARGV[1], "epoch", ARGV[2])
  redis.call("PEXPIRE", KEYS[1], ARGV[12])
  return "ok"
end
local chunks = tonumber(held[4] or "0")
if first > chunks + 1 or (not held[1] and ARGV[9] == "") then
  return "missing"
end
if not held[1] then
  redis.call("DEL", KEYS[2])
  redis.call("HSET", KEYS[1], "state", "running", "fingerprint", ARGV[9], "operation", ARGV[1], "epoch", ARGV[2],
    "request", ARGV[10], "run_id", ARGV[11])
end
for i = 13, #ARGV do
  local number = first + i - 13
  if number > chunks then
    redis.call("XADD", KEYS[2], number .. "-0", "d", ARGV[i])
    chunks = number
  end
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call("HSET", KEYS[1], "chunks", chunks, "lease_until", string.format("%.0f", now + ARGV[3]))
if ARGV[5] ~= "" then
  redis.call("HSET", KEYS[1], "head", ARGV[5], "scope", ARGV[6])
end
if ARGV[7] == "keep" then
  redis.call("HSET", KEYS[1], "state", "done")
  redis.call("HDEL", KEYS[1], "request")
end
local keep = tonumber(ARGV[4])
if ARGV[7] == "pause" then
  redis.call("HSET", KEYS[1], "state", "paused", "paused_at", string.format("%.0f", now))
  keep = keep + tonumber(ARGV[3])
end
redis.call("PEXPIRE", KEYS[1], keep)
redis.call("PEXPIRE", KEYS[2], keep)
return "ok"
