-- Renews the permits of a run that is under way.
-- KEYS: the run's record, then one key a limit of runs at once.  ARGV: operation, lease in ms.
-- Replies 1 when the run is under way, 0 when it is over or unknown.
if redis.call("HGET", KEYS[1], "state") ~= "held" then return 0 end
local time = redis.call("TIME")
local until_ms = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000) + tonumber(ARGV[2])
for number = 2, #KEYS do
  redis.call("ZADD", KEYS[number], string.format("%.0f", until_ms), ARGV[1])
end
return 1
