-- Reads records that fade with time.
-- KEYS: records (a hash).  Returns the time now in ms, by the clock that the records were written by, and the hash.
local time = redis.call("TIME")
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call("HGETALL", KEYS[1])}
