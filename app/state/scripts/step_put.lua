-- Records what became of a step of a run, for its owner. Safe to repeat.
-- KEYS: the run's record, its steps.  ARGV: owner, epoch, ms to keep the steps, path, record.
-- Returns 1 when it is written, 0 where the run belongs to somebody else or was deleted.
local held = redis.call("HMGET", KEYS[1], "status", "owner", "epoch")
if held[1] and (held[2] ~= ARGV[1] or held[3] ~= ARGV[2]) then
  return 0
end
redis.call("HSET", KEYS[2], ARGV[4], ARGV[5])
redis.call("PEXPIRE", KEYS[2], ARGV[3])
return 1
