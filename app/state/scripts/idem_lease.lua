-- Notes when the leases of requests end, by the server's clock, for those who look for dead owners.
-- KEYS: leases (a sorted set).  ARGV: lease in ms, "NX" to leave those alone that are there, else "CH", members.
local time = redis.call("TIME")
local until_ms = string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
for i = 3, #ARGV do
  redis.call("ZADD", KEYS[1], ARGV[2], until_ms, ARGV[i])
end
return #ARGV - 2
