-- What the owner of a request tells of it: that it lives, the pieces of its answer, its end. Refused to who has lost it.
-- Safe to repeat: pieces that are there are not added again.
-- KEYS: record, body.
-- ARGV: owner, epoch, lease in ms, ms to keep, the answer's head ("" for none yet), scope that its reader needs,
--       end ("" while it goes on, "keep", "drop"), number of the first piece, pieces.
-- Returns "ok" or "lost".
local held = redis.call("HMGET", KEYS[1], "state", "owner", "epoch", "chunks")
if held[2] ~= ARGV[1] or held[3] ~= ARGV[2] then
  return "lost"
end
if held[1] == "done" then
  return "ok"
end
if ARGV[7] == "drop" then
  redis.call("DEL", KEYS[1], KEYS[2])
  return "ok"
end
local chunks, first = tonumber(held[4] or "0"), tonumber(ARGV[8])
for i = 9, #ARGV do
  local number = first + i - 9
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
  redis.call("HDEL", KEYS[1], "request", "operation")
end
redis.call("PEXPIRE", KEYS[1], ARGV[4])
redis.call("PEXPIRE", KEYS[2], ARGV[4])
return "ok"
