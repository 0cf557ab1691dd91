-- Reads a conversation and, for a run that is to take its turn, keeps other runs out of it meanwhile.
-- KEYS: record, turns, lease.  ARGV: run id and token, with a space between them ("" only reads), lease in ms, ms to be kept.
-- Returns {ms} where another run is taking its turn, else {-1, version, dropped, system or "", turns}.
if ARGV[1] ~= "" then
  local held = redis.call("GET", KEYS[3])
  if held and string.match(held, "^%S+") ~= string.match(ARGV[1], "^%S+") then
    return {math.max(redis.call("PTTL", KEYS[3]), 0)}
  end
  redis.call("SET", KEYS[3], ARGV[1], "PX", ARGV[2])
  redis.call("PEXPIRE", KEYS[1], ARGV[3])
  redis.call("PEXPIRE", KEYS[2], ARGV[3])
end
local known = redis.call("HMGET", KEYS[1], "version", "dropped", "system")
local turns = redis.call("LRANGE", KEYS[2], 0, -1)
return {-1, tonumber(known[1] or 0), tonumber(known[2] or 0), known[3] or "", turns}
