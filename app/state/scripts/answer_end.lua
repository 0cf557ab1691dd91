-- A leader has asked: what is to be kept of it, if anything. Also keeps a leader's lease.
-- KEYS: answer, leader.  ARGV: who, answer ("" for none), ms to keep it, lease in ms ("0" to give it up).
if ARGV[2] ~= "" then
  redis.call("SET", KEYS[1], ARGV[1] .. ARGV[2], "PX", ARGV[3])
end
if redis.call("GET", KEYS[2]) ~= ARGV[1] then
  return 0
end
if ARGV[4] == "0" then
  redis.call("DEL", KEYS[2])
else
  redis.call("PEXPIRE", KEYS[2], ARGV[4])
end
return 1
