-- Appends records to a tenant's chain, where it still ends as the caller believes; without records, tells how it ends.
-- KEYS: records (a stream whose ids are the records' numbers), checkpoint.
-- ARGV: number and hash of the record that is believed to be the last, ms that a clock may be off, ms of the new records, records.
-- Returns {outcome, number, hash, ms of the last record, ms now, id of the key that has signed it}: ok, moved (it ends otherwise), late (the time is not now's),
-- broken (its end cannot be read), head. What was appended by a command whose reply was lost is ok again.
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local seq, hash, time, key = 0, string.rep("0", 64), 0, ""
local function whole(number)
  return string.format("%.0f", number)
end
local function said(outcome)
  return {outcome, whole(seq), hash, whole(time), whole(now), key}
end

local last = redis.call("XREVRANGE", KEYS[1], "+", "-", "COUNT", 1)[1]
local text = last and last[2][2] or redis.call("GET", KEYS[2])
if text then
  local read, record = pcall(cjson.decode, text)
  local named = read and type(record) == "table" and (last and record.hash or record.last_hash)
  if type(named) ~= "string" or type(record.seq) ~= "number" or type(record.time_ms) ~= "number"
      or (last and last[1] ~= whole(record.seq) .. "-0") then
    return said("broken")
  end
  seq, hash, time, key = record.seq, named, record.time_ms, tostring(record.key)
end
-- The numbers of records that were deleted at the end are not given again, so that the gap stays.
if redis.call("EXISTS", KEYS[1]) == 1 then
  local facts = redis.call("XINFO", "STREAM", KEYS[1])
  for i = 1, #facts, 2 do
    if facts[i] == "last-generated-id" then
      seq = math.max(seq, tonumber(string.match(facts[i + 1], "^%d+")))
    end
  end
end
if #ARGV < 5 then
  return said("head")
end
local claimed = tonumber(ARGV[4])
if whole(seq) ~= ARGV[1] or hash ~= ARGV[2] then
  local id = whole(tonumber(ARGV[1]) + 1) .. "-0"
  local first = redis.call("XRANGE", KEYS[1], id, id)[1]
  return said(first and first[2][2] == ARGV[5] and "ok" or "moved")
end
if claimed < time or (claimed > time and math.abs(claimed - now) > tonumber(ARGV[3])) then
  return said("late")
end
for i = 5, #ARGV do
  seq = seq + 1
  redis.call("XADD", KEYS[1], whole(seq) .. "-0", "record", ARGV[i])
end
hash, time = cjson.decode(ARGV[#ARGV]).hash, claimed
return said("ok")
