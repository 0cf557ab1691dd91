-- Appends events to a run's log, renews its owner's lease, and tells the owner what others want of the run.
-- Safe to repeat: what is there already is not appended again.
-- KEYS: record, events, steps, signals.
-- ARGV: owner, epoch, lease in ms, ms to keep the record, ms to keep the events,
--       snapshot's number ("" for none), snapshot, number below which events are dropped,
--       status at the end or while it is paused ("" while it runs), result,
--       count of the fields of a new record (0: it must be there), those fields, then number, type, data of each event.
-- Returns {outcome, cancel, reader}: outcome is ok, missing (nothing is stored of the run), lost (it belongs to somebody else or
-- was deleted); cancel is 1 when it was asked for; reader is the ms since a reader elsewhere was last seen, or -1.
local record, events = KEYS[1], KEYS[2]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call("HMGET", record, "status", "owner", "epoch", "cancel", "read_at", "last_seq")
local fields = tonumber(ARGV[11])
local last = tonumber(held[6] or "0")
if not held[1] then
  if fields == 0 then
    return {"missing", 0, -1}
  end
  redis.call("DEL", events)
  redis.call("HSET", record, "status", "running", "owner", ARGV[1], "epoch", ARGV[2], unpack(ARGV, 12, 11 + fields))
elseif held[2] ~= ARGV[1] or held[3] ~= ARGV[2] then
  return {"lost", 0, -1}
elseif held[1] ~= "running" then
  return {"ok", 0, -1}
end
for i = 12 + fields, #ARGV, 3 do
  local seq = tonumber(ARGV[i])
  if seq > last then
    redis.call("XADD", events, ARGV[i] .. "-0", "t", ARGV[i + 1], "d", ARGV[i + 2])
    last = seq
  end
end
redis.call("HSET", record, "last_seq", string.format("%.0f", last), "lease_until", string.format("%.0f", now + ARGV[3]))
if ARGV[6] ~= "" then
  redis.call("HSET", record, "snapshot_seq", ARGV[6], "snapshot", ARGV[7])
  redis.call("XTRIM", events, "MINID", ARGV[8] .. "-0")
end
if ARGV[9] == "needs_approval" then
  redis.call("HSET", record, "status", ARGV[9], "result", ARGV[10])
  redis.call("PEXPIRE", KEYS[3], ARGV[4])
  redis.call("PEXPIRE", KEYS[4], ARGV[4])
elseif ARGV[9] ~= "" then
  redis.call("HSET", record, "status", ARGV[9], "result", ARGV[10], "finished_at", time[1])
  redis.call("HDEL", record, "paused", "began_with")
end
redis.call("PEXPIRE", record, ARGV[4])
redis.call("PEXPIRE", events, ARGV[5])
return {"ok", held[4] and 1 or 0, held[5] and now - held[5] or -1}
