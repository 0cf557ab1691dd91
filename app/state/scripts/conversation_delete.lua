-- Removes a conversation.  KEYS: record, turns, lease.  Returns 1 where there was one.
local found = redis.call("DEL", KEYS[1])
redis.call("DEL", KEYS[2], KEYS[3])
return found
