-- Removes what a run has asked for, and what was decided: it was deleted. A mark stays for a while, so that its process, if it
-- still runs, asks for nothing more. That an approval was used stays known.
-- KEYS: entries, decisions, pending, decided, expiries, ready, approvals of the run.  ARGV: run id, ms that the mark stays.
for _, id in ipairs(redis.call("SMEMBERS", KEYS[7])) do
  for _, index in ipairs({KEYS[3], KEYS[4]}) do
    redis.call("ZREM", index, id)
  end
  for _, held in ipairs({KEYS[1], KEYS[2], KEYS[5]}) do
    redis.call("HDEL", held, id)
  end
end
redis.call("HDEL", KEYS[6], ARGV[1])
redis.call("DEL", KEYS[7])
redis.call("SADD", KEYS[7], "deleted")
redis.call("PEXPIRE", KEYS[7], ARGV[2])
return 1
