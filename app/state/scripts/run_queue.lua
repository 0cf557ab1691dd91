-- Stores a run that waits for a worker. It goes by itself unless it is kept on, once it is in the queue.
-- KEYS: record.  ARGV: ms until it goes, then its fields.
-- Returns 1, or 0 where there is a record already.
if redis.call("EXISTS", KEYS[1]) == 1 then
  return 0
end
redis.call("HSET", KEYS[1], "status", "queued", "epoch", "0", "last_seq", "0", unpack(ARGV, 2))
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return 1
