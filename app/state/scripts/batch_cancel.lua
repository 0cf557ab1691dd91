-- Has no further line of a batch begun.
-- KEYS: batch.
-- Returns 1, or 0 where it is not there (any more).
if redis.call("EXISTS", KEYS[1]) == 0 then
  return 0
end
redis.call("HSET", KEYS[1], "cancel", "1")
return 1
