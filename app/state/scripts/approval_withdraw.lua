-- Withdraws what a run waits for: it has ended. Or one approval, of a call that is given up: where the run waits for no other, it
-- is ready to go on. Harmless where nothing is pending.
-- KEYS: entries, decisions, pending, decided, expiries, ready, approvals of the run.
-- ARGV: run id, decision as JSON, the same for what has expired, id of the one approval ("" for all), digest of the run's request.
-- Returns the entries that were withdrawn.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local only = ARGV[4]
local withdrawn, ended, left = {}, 0, 0
for _, id in ipairs(redis.call("SMEMBERS", KEYS[7])) do
  local at = redis.call("ZSCORE", KEYS[3], id)
  local expired = tonumber(redis.call("HGET", KEYS[5], id) or "0") <= now
  if at and (only == "" or only == id) then
    redis.call("HSET", KEYS[2], id, expired and ARGV[3] or ARGV[2])
    redis.call("ZADD", KEYS[4], at, id)
    redis.call("ZREM", KEYS[3], id)
    ended = ended + 1
    local entry = redis.call("HGET", KEYS[1], id)
    if entry and not expired then
      table.insert(withdrawn, entry)
    end
  elseif at and not expired then
    left = left + 1
  end
end
if only == "" then
  redis.call("HDEL", KEYS[6], ARGV[1])
elseif ended > 0 and left == 0 and redis.call("SCARD", KEYS[7]) > 1 then
  redis.call("HSET", KEYS[6], ARGV[1], ARGV[5])
end
local keep = redis.call("PTTL", KEYS[1])
if ended > 0 and keep > 0 then
  redis.call("PEXPIRE", KEYS[2], keep)
  redis.call("PEXPIRE", KEYS[4], keep)
  redis.call("PEXPIRE", KEYS[6], keep)
end
return withdrawn
