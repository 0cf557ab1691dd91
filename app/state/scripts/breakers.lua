-- Circuit breakers of all replicas: the decisions of reliability/circuit.py, with the server's time.
-- KEYS: records (id -> JSON), version, then one window (slot:member -> count) for each entry.
-- ARGV: channel, operation, JSON list of entries.
-- Operations: "report" (calls that ended, pauses, probes that are over or under way), "ask", "reset", "read".
-- Every change of a state, an epoch or a pause raises the version and is published.
-- Returns JSON: {now (ms), records {id -> record}, grants {id -> {admitted, generation, probe, retry_ms}}}.
local SLOTS, JITTER, KEPT_S = 10, 0.1, 7 * 86400
local records, version = KEYS[1], KEYS[2]
local channel, operation, entries = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function begin(r, state, window)
  r.state, r.generation = state, r.generation + 1
  r.until_ms, r.issued, r.passed, r.leases = 0, 0, 0, {}
  redis.call('DEL', window)
end

local function open(r, rules, jitter, window)
  local full = math.min(rules.max_open_ms, rules.open_ms * 2 ^ math.min(r.trips, 30))
  r.trips = r.trips + 1
  begin(r, 'open', window)
  r.until_ms = now + math.floor(full * (1 - JITTER + 2 * JITTER * jitter))
end

local function report(r, entry, window)
  local rules, tally = entry.rules, entry.tally
  if r.state ~= 'closed' or entry.generation ~= r.generation then return end
  local current = math.floor(now / math.max(1, math.floor(rules.window_ms / SLOTS)))
  local whole = {calls = 0, failures = 0, timed = 0, slow = 0}
  for member, count in pairs(tally) do
    if count > 0 then redis.call('HINCRBY', window, current .. ':' .. member, count) end
  end
  redis.call('PEXPIRE', window, 2 * rules.window_ms)
  local stored = redis.call('HGETALL', window)
  for i = 1, #stored, 2 do
    local slot, member = string.match(stored[i], '(%d+):(%a+)')
    if tonumber(slot) <= current - SLOTS then
      redis.call('HDEL', window, stored[i])
    else
      whole[member] = whole[member] + tonumber(stored[i + 1])
    end
  end
  local failing = whole.calls >= rules.min_calls and whole.failures >= rules.failure_share * whole.calls
  local slow = whole.timed >= rules.min_calls and whole.slow >= rules.slow_share * whole.timed
  if failing or slow then open(r, rules, entry.jitter, window) end
end

local function ask(r, entry, window)
  local rules, permit = entry.rules, entry.permit
  if r.state == 'closed' then return {admitted = true, generation = r.generation, probe = false, retry_ms = 0} end
  if r.state == 'open' then
    if now < r.until_ms then
      return {admitted = false, generation = r.generation, probe = false, retry_ms = r.until_ms - now}
    end
    begin(r, 'half_open', window)
  end
  if r.leases[permit] == nil then
    local first = nil
    for _, expires in pairs(r.leases) do
      if expires > now and (first == nil or expires < first) then first = expires end
    end
    if r.issued >= rules.probes then
      if first ~= nil then
        return {admitted = false, generation = r.generation, probe = false, retry_ms = first - now}
      end
      begin(r, 'half_open', window)
    end
    r.issued = r.issued + 1
    r.leases[permit] = now + rules.lease_ms
  end
  return {admitted = true, generation = r.generation, probe = true, retry_ms = 0}
end

local function settle(r, entry, probe, window)
  if r.state ~= 'half_open' or probe.generation ~= r.generation or r.leases[probe.permit] == nil then return end
  r.leases[probe.permit] = nil
  if probe.verdict == 'failed' then
    open(r, entry.rules, entry.jitter, window)
  elseif probe.verdict == 'passed' then
    r.passed = r.passed + 1
    if r.passed >= entry.rules.probes then
      r.trips = 0
      begin(r, 'closed', window)
    end
  end
end

local out = {now = now, records = {}, grants = {}}
if operation == 'read' then
  local stored = redis.call('HGETALL', records)
  for i = 1, #stored, 2 do out.records[stored[i]] = cjson.decode(stored[i + 1]) end
  return cjson.encode(out)
end

local changed = false
for i, entry in ipairs(entries) do
  local window = KEYS[2 + i]
  local stored = redis.call('HGET', records, entry.id)
  local r = stored and cjson.decode(stored)
    or {state = 'closed', generation = 0, until_ms = 0, trips = 0, issued = 0, passed = 0, cool_until_ms = 0, leases = {}}
  local generation, cool = r.generation, r.cool_until_ms
  if operation == 'report' then
    if entry.tally then report(r, entry, window) end
    for _, probe in ipairs(entry.probes) do settle(r, entry, probe, window) end
    for _, permit in ipairs(entry.renew) do
      if r.leases[permit] ~= nil then r.leases[permit] = now + entry.rules.lease_ms end
    end
    if entry.cool_ms > 0 then r.cool_until_ms = math.max(r.cool_until_ms, now + entry.cool_ms) end
  elseif operation == 'ask' then
    out.grants[entry.id] = ask(r, entry, window)
  elseif operation == 'reset' then
    r.trips, r.cool_until_ms = 0, 0
    begin(r, 'closed', window)
  end
  local after = cjson.encode(r)
  if after ~= stored and (stored or r.generation > 0 or r.cool_until_ms > 0) then
    redis.call('HSET', records, entry.id, after)
    redis.call('EXPIRE', records, KEPT_S)
  end
  if r.generation ~= generation or r.cool_until_ms ~= cool then changed = true end
  out.records[entry.id] = r
end
if changed then redis.call('PUBLISH', channel, redis.call('INCR', version)) end
return cjson.encode(out)
