-- Ends a run's reservation: what it really used stays booked, the rest is given back. Nothing used: all of it is given back.
-- KEYS: the run's record, then one key a limit.  ARGV: operation, nano-dollars and tokens used; then kind and size, a limit.
-- Replies 1 when this ended it, 0 when it was ended before or was never admitted: then it never will be.
-- Of tokens a minute, what has drained since the admission is not given back: others may have had it.
local MINUTE, DAY, KEEP_MS = 60000000, 86400, 600000
local time = redis.call("TIME")
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])
local used = { usd = tonumber(ARGV[2]), tokens = tonumber(ARGV[3]) }
local whole = function(number) return string.format("%.0f", number) end

local record = redis.call("HMGET", KEYS[1], "state", "usd", "tokens", "day", "at")
redis.call("DEL", KEYS[1])
redis.call("HSET", KEYS[1], "state", "over")
redis.call("PEXPIRE", KEYS[1], KEEP_MS)
if record[1] ~= "held" then return 0 end
local held = { usd = tonumber(record[2]), tokens = tonumber(record[3]) }
local day, at = tonumber(record[4]), tonumber(record[5])

for number = 2, #KEYS do
  local key, kind = KEYS[number], ARGV[4 + 2 * (number - 2)]
  local size = tonumber(ARGV[5 + 2 * (number - 2)])
  if kind == "usd_per_day" or kind == "tokens_per_day" then
    local unit = kind == "usd_per_day" and "usd" or "tokens"
    local stored = redis.call("HMGET", key, "day", "used")
    if tonumber(stored[1]) == day then
      redis.call("HSET", key, "used", whole(math.max(0, tonumber(stored[2]) + used[unit] - held[unit])))
    end
  elseif kind == "tokens_per_minute" then
    local stored = redis.call("HMGET", key, "level", "at")
    local level = tonumber(stored[1]) or 0
    local gone = math.min(MINUTE, math.max(0, now - (tonumber(stored[2]) or now)))
    level = math.max(0, level - gone * size)
    local more = (used.tokens - held.tokens) * MINUTE
    if more < 0 then more = math.min(0, more + math.max(0, now - at) * size) end
    redis.call("HSET", key, "level", whole(math.max(0, level + more)), "at", whole(now))
  elseif kind == "concurrent_runs" then
    redis.call("ZREM", key, ARGV[1])
  end
end
return 1
