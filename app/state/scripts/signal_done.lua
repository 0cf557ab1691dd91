-- Forgets that a run may go on, unless another signal says so by now.
-- KEYS: signalled.  ARGV: tenant and run, what was seen of it.
if redis.call("HGET", KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call("HDEL", KEYS[1], ARGV[1])
end
return 1
