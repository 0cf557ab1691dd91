-- Admits a run under its tenant's and key's limits, or says what stands against it. Nothing is taken unless all of it is.
-- KEYS: the run's record, then one key a limit.
-- ARGV: operation, lease in ms, "dry" to take nothing or "anyway" to admit it whatever stands against it, then nano-dollars and tokens at most, and at least; then kind and size, a limit.
-- Replies: outcome, nano-dollars and tokens granted, number of the limit that refuses (0: none), ms to wait (-1: no use);
-- then what is left and the ms until it is whole (-1: no time makes it so), a limit.
-- Outcomes: 1 admitted, 0 refused, 2 the run is over already. Sent twice it counts once.
local MINUTE, DAY, DONE = 60000000, 86400, 2
local KEEP_MS, ASK_AGAIN_MS = 172800000, 1000
local time = redis.call("TIME")
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])
local now_ms, day = math.floor(now / 1000), math.floor(seconds / DAY)
local operation, lease_ms, dry, anyway = ARGV[1], tonumber(ARGV[2]), ARGV[3] == "dry", ARGV[3] == "anyway"
local ask = { usd = tonumber(ARGV[4]), tokens = tonumber(ARGV[5]) }
local least = { usd = tonumber(ARGV[6]), tokens = tonumber(ARGV[7]) }
local whole = function(number) return string.format("%.0f", number) end

local UNIT = { usd_per_day = "usd", tokens_per_day = "tokens", tokens_per_minute = "tokens" }
local limits = {}
for number = 2, #KEYS do
  local at = 8 + 2 * (number - 2)
  limits[number - 1] = { key = KEYS[number], kind = ARGV[at], size = tonumber(ARGV[at + 1]), unit = UNIT[ARGV[at]] }
end

-- 1. How each limit stands.
local function look(limit)
  if limit.kind == "usd_per_day" or limit.kind == "tokens_per_day" then
    local stored = redis.call("HMGET", limit.key, "day", "used")
    limit.used = tonumber(stored[1]) == day and tonumber(stored[2]) or 0
    limit.free = limit.size - limit.used
    limit.resets = (DAY - seconds % DAY) * 1000
  elseif limit.kind == "concurrent_runs" then
    limit.free = limit.size - redis.call("ZCOUNT", limit.key, "(" .. whole(now_ms), "+inf")
    limit.resets = -1
  else
    local stored = redis.call("HMGET", limit.key, "level", "at")
    local level, gone = tonumber(stored[1]) or 0, now - (tonumber(stored[2]) or now)
    if gone >= MINUTE then gone = MINUTE end
    limit.level = math.max(0, level - math.max(0, gone) * limit.size)
    limit.free = math.floor((limit.size * MINUTE - limit.level) / MINUTE)
    limit.resets = math.ceil(limit.level / limit.size / 1000)
  end
end
for _, limit in ipairs(limits) do look(limit) end

-- 2. What is granted: all that is asked, or as much of it as there is.
local stored = redis.call("HMGET", KEYS[1], "state", "usd", "tokens")
local granted, again = ask, stored[1] == "held"
if stored[1] == "over" then return { DONE, 0, 0, 0, -1 } end
if again then
  granted = { usd = tonumber(stored[2]), tokens = tonumber(stored[3]) }
else
  granted = { usd = ask.usd, tokens = ask.tokens }
  for _, limit in ipairs(limits) do
    if limit.unit then
      granted[limit.unit] = math.max(least[limit.unit], math.min(granted[limit.unit], limit.free))
    end
  end
end

-- 3. Whether any limit stands against it.
local function needs(limit) return limit.unit and granted[limit.unit] or 1 end
local function wait(limit, need)
  if need > limit.size then return -1 end
  if limit.level then return math.ceil((limit.level + need * MINUTE - limit.size * MINUTE) / limit.size / 1000) end
  return limit.resets >= 0 and limit.resets or ASK_AGAIN_MS
end
local outcome, refused, wait_ms = 1, 0, -1
if not again and not anyway then
  for number, limit in ipairs(limits) do
    local need = needs(limit)
    if need > limit.free then
      outcome, refused, wait_ms, granted = 0, number, wait(limit, need), { usd = 0, tokens = 0 }
      break
    end
  end
end

-- 4. Take it.
if outcome == 1 and not again and not dry then
  for _, limit in ipairs(limits) do
    local need = needs(limit)
    if limit.used then
      redis.call("HSET", limit.key, "day", day, "used", whole(limit.used + need))
      redis.call("PEXPIRE", limit.key, KEEP_MS)
    elseif limit.level then
      limit.level = limit.level + need * MINUTE
      redis.call("HSET", limit.key, "level", whole(limit.level), "at", whole(now))
      redis.call("PEXPIRE", limit.key, KEEP_MS)
      limit.resets = math.ceil(limit.level / limit.size / 1000)
    else
      redis.call("ZREMRANGEBYSCORE", limit.key, "-inf", whole(now_ms))
      redis.call("ZADD", limit.key, whole(now_ms + lease_ms), operation)
      redis.call("PEXPIRE", limit.key, KEEP_MS)
    end
    limit.free = limit.free - need
  end
  redis.call("HSET", KEYS[1], "state", "held", "usd", whole(granted.usd), "tokens", whole(granted.tokens), "day", day, "at", whole(now))
  redis.call("PEXPIRE", KEYS[1], KEEP_MS)
end

local reply = { outcome, granted.usd, granted.tokens, refused, wait_ms }
for _, limit in ipairs(limits) do
  reply[#reply + 1] = math.max(0, limit.free)
  reply[#reply + 1] = limit.resets
end
return reply
