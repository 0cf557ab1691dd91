-- Uses an approval, once, for the call that it is bound to. Safe to repeat with the same operation.
-- KEYS: decisions, used.  ARGV: id, hash of the call, operation, ms to keep the mark.
-- Returns "ok", "used" (by another operation) or "unbound": it was not given, or for another call.
local held = redis.call("HGET", KEYS[1], ARGV[1])
local decision = held and cjson.decode(held)
if not decision or (decision.decision ~= "approve" and decision.decision ~= "edit") or decision.hash ~= ARGV[2] then
  return "unbound"
end
if redis.call("HSETNX", KEYS[2], ARGV[1], ARGV[3]) == 0 and redis.call("HGET", KEYS[2], ARGV[1]) ~= ARGV[3] then
  return "used"
end
if redis.call("PTTL", KEYS[2]) < tonumber(ARGV[4]) then
  redis.call("PEXPIRE", KEYS[2], ARGV[4])
end
return "ok"
