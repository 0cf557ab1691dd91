-- Reads some turns of a conversation.  KEYS: record, turns.  ARGV: number of the turn before the first, most turns.
-- Returns {version (nil where there is none), dropped, bytes, created_at, used_at, system, ms it is kept for, turns}.
local known = redis.call("HMGET", KEYS[1], "version", "dropped", "bytes", "created_at", "used_at", "system")
local start = math.max(tonumber(ARGV[1]) - tonumber(known[2] or 0), 0)
known[7] = redis.call("PTTL", KEYS[1])
known[8] = redis.call("LRANGE", KEYS[2], start, start + tonumber(ARGV[2]) - 1)
return known
