-- Removes the oldest records of a tenant's chain, and leaves a checkpoint in their place. The last record always stays.
-- KEYS: records, checkpoint.  ARGV: number of the last record that goes, checkpoint as JSON.  Returns how many went.
local held = redis.call("GET", KEYS[2])
if held and cjson.decode(held).seq >= tonumber(ARGV[1]) then
  return 0
end
local last = redis.call("XREVRANGE", KEYS[1], "+", "-", "COUNT", 1)[1]
if not last or tonumber(string.match(last[1], "^%d+")) <= tonumber(ARGV[1]) then
  return 0
end
redis.call("SET", KEYS[2], ARGV[2])
return redis.call("XTRIM", KEYS[1], "MINID", string.format("%.0f", ARGV[1] + 1))
