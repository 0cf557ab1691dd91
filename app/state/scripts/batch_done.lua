-- Stores what came of a line of a batch, once.
-- KEYS: batch, results of the line's part, what is said of the part's lines that wait, what its lines used and may not be booked.
-- ARGV: the line's place in its part, its result, "succeeded" or "failed", input tokens, output tokens, nano-dollars ("" where
-- the price is not known), ms to keep the results, what is to be booked of it then ("": nothing).
-- Returns 1 when the batch is to be cancelled, 0 otherwise, or nothing where it is not there.
local held = redis.call("HMGET", KEYS[1], "status", "cancel")
if not held[1] then
  return false
end
if redis.call("HDEL", KEYS[3], ARGV[1]) == 1 then
  redis.call("HINCRBY", KEYS[1], "waiting", -1)
end
if redis.call("HSETNX", KEYS[2], ARGV[1], ARGV[2]) == 1 then
  redis.call("HINCRBY", KEYS[1], ARGV[3], 1)
  redis.call("HINCRBY", KEYS[1], "input_tokens", ARGV[4])
  redis.call("HINCRBY", KEYS[1], "output_tokens", ARGV[5])
  if ARGV[6] == "" then
    redis.call("HINCRBY", KEYS[1], "unpriced", 1)
  else
    redis.call("HINCRBY", KEYS[1], "nano_usd", ARGV[6])
  end
  redis.call("PEXPIRE", KEYS[2], ARGV[7])
  if ARGV[8] ~= "" then
    redis.call("HSET", KEYS[4], ARGV[1], ARGV[8])
    redis.call("PEXPIRE", KEYS[4], ARGV[7])
  end
end
return held[2] and 1 or 0
