-- Notes that a line of a batch waits for a run of its own, or none of a part does any more.
-- KEYS: batch, what is said of the part's lines that wait.
-- ARGV: ms to keep it, then the line's place and what is said of it; neither where none waits any more.
-- Returns 1, or 0 where the batch is not there.
if redis.call("EXISTS", KEYS[1]) == 0 then
  return 0
end
if not ARGV[2] then
  local waited = redis.call("HLEN", KEYS[2])
  if waited > 0 then  -- the negative of 0 is no integer to every server
    redis.call("HINCRBY", KEYS[1], "waiting", -waited)
    redis.call("DEL", KEYS[2])
  end
  return 1
end
if redis.call("HSET", KEYS[2], ARGV[2], ARGV[3]) == 1 then
  redis.call("HINCRBY", KEYS[1], "waiting", 1)
end
redis.call("PEXPIRE", KEYS[2], ARGV[1])
return 1
