-- Appends the turn of a run that has answered, and lets the next run in. May be sent again.
-- KEYS: record, turns, lease.
-- ARGV: run id and token, version that the run has seen, turn, system ("" leaves it), most turns, most bytes, ms to be kept.
-- A turn begins with "+" where it answers calls of the turn before it, which stays for as long as it does, else with "-".
-- Returns how many turns were dropped to make room; -1 where the conversation went on, or was deleted, without this run.
local holder, run = ARGV[1], string.match(ARGV[1], "^%S+")
local held = redis.call("GET", KEYS[3])
local known = redis.call("HMGET", KEYS[1], "version", "run", "holder", "bytes", "dropped")
local version = tonumber(known[1] or 0)
local again = known[2] == run and (held == holder or (not held and known[3] == holder))
if not again and ((held and held ~= holder) or version ~= tonumber(ARGV[2])) then
  return -1
end

local bytes, dropped = tonumber(known[4] or 0), 0
if again then
  bytes = bytes - string.len(redis.call("LINDEX", KEYS[2], -1) or "")
  redis.call("LSET", KEYS[2], -1, ARGV[3])
else
  redis.call("RPUSH", KEYS[2], ARGV[3])
  version = version + 1
end
bytes = bytes + string.len(ARGV[3])

local function answers(place)
  local turn = redis.call("LINDEX", KEYS[2], place)
  return turn and string.sub(turn, 1, 1) == "+"
end
local left = redis.call("LLEN", KEYS[2])
while left > tonumber(ARGV[5]) or bytes > tonumber(ARGV[6]) do
  local together = 1
  while answers(together) do
    together = together + 1
  end
  if together >= left then
    break
  end
  for _ = 1, together do
    bytes = bytes - string.len(redis.call("LPOP", KEYS[2]))
  end
  left, dropped = left - together, dropped + together
end

local time = redis.call("TIME")
local fields = {"version", version, "run", run, "holder", holder, "bytes", bytes, "used_at", time[1]}
if ARGV[4] ~= "" then
  fields[#fields + 1] = "system"
  fields[#fields + 1] = ARGV[4]
end
redis.call("HSET", KEYS[1], unpack(fields))
redis.call("HSETNX", KEYS[1], "created_at", time[1])
redis.call("HINCRBY", KEYS[1], "dropped", dropped)
redis.call("PEXPIRE", KEYS[1], ARGV[7])
redis.call("PEXPIRE", KEYS[2], ARGV[7])
if held == holder then
  redis.call("DEL", KEYS[3])
end
return dropped
