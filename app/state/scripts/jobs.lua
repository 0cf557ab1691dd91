-- The queue: what waits, who runs what, and whose turn it is. All of its keys begin with the only one that is given, and lie in
-- one slot. Times are the server's.
-- KEYS: beginning of all keys.  ARGV: what to do, then what each function below says.
--
--   job:<id>          hash: tenant, kind, rank (place among its tenant's), slots (runs at once that it has use for), weight (its
--                     share of the turns), providers (with commas), state (waiting, delayed, running), attempts, epoch, owner,
--                     granted (slots that it has), created (ms), faults (processes that died with it, or that it broke), why (nobody is
--                     to run it any more)
--   waiting:<tenant>:<providers>  sorted set of a tenant's jobs that ask the same providers, by rank: its lanes
--   lanes:<tenant>    sorted set of a tenant's lanes (as their providers) by their first rank
--   tenants           sorted set of those who have a lane, by turns taken
--   delayed, leases   sorted sets of jobs by ms                  used      hash: slots in use, t:<tenant> and p:<provider>
--   workers           sorted set of processes by ms              turn      the last turn that was taken; rank: the last number
--   from              how many tenants are passed over at the next look beyond the `FIRST`
local FIRST, MORE = 128, 128
local at = KEYS[1]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function lane(tenant, providers)
  return at .. "waiting:" .. tenant .. ":" .. providers
end

local function ranked(tenant, providers)
  local first = redis.call("ZRANGE", lane(tenant, providers), 0, 0, "WITHSCORES")
  if first[1] then
    redis.call("ZADD", at .. "lanes:" .. tenant, first[2], providers)
  else
    redis.call("ZREM", at .. "lanes:" .. tenant, providers)
  end
end

local function wait(id, tenant, rank)
  local providers = redis.call("HGET", at .. "job:" .. id, "providers")
  redis.call("HSET", at .. "job:" .. id, "state", "waiting")
  redis.call("ZADD", lane(tenant, providers), rank, id)
  ranked(tenant, providers)
  if not redis.call("ZSCORE", at .. "tenants", tenant) then  -- who comes back has saved no turns up
    redis.call("ZADD", at .. "tenants", redis.call("GET", at .. "turn") or "0", tenant)
  end
end

local function leave(id, tenant, providers)
  redis.call("ZREM", lane(tenant, providers), id)
  ranked(tenant, providers)
  if redis.call("EXISTS", at .. "lanes:" .. tenant) == 0 then
    redis.call("ZREM", at .. "tenants", tenant)
  end
end

local function count(tenant, providers, slots)
  local names = {"t:" .. tenant}
  for provider in string.gmatch(providers, "[^,]+") do
    names[#names + 1] = "p:" .. provider
  end
  for _, name in ipairs(names) do
    if redis.call("HINCRBY", at .. "used", name, slots) <= 0 then
      redis.call("HDEL", at .. "used", name)
    end
  end
end

local function release(id)
  local job = redis.call("HMGET", at .. "job:" .. id, "tenant", "providers", "granted", "rank")
  count(job[1], job[2], -tonumber(job[3]))
  redis.call("ZREM", at .. "leases", id)
  redis.call("HSET", at .. "job:" .. id, "granted", "0", "owner", "")
  return job[1], job[4]
end

local function owned(id, owner, epoch)
  local job = redis.call("HMGET", at .. "job:" .. id, "owner", "epoch", "state")
  return job[3] == "running" and job[1] == owner and job[2] == epoch
end

-- put: id, tenant, kind, priority (0 first), slots, weight, providers, delay in ms. 0 where it is known already.
local function put(id, tenant, kind, priority, slots, weight, providers, delay)
  if redis.call("EXISTS", at .. "job:" .. id) == 1 then
    return 0
  end
  local rank = string.format("%.0f", priority * 1e12 + redis.call("INCR", at .. "rank"))
  redis.call("HSET", at .. "job:" .. id, "tenant", tenant, "kind", kind, "rank", rank, "slots", slots, "weight", weight,
    "providers", providers, "attempts", "0", "epoch", "0", "granted", "0", "created", string.format("%.0f", now))
  if tonumber(delay) > 0 then
    redis.call("HSET", at .. "job:" .. id, "state", "delayed")
    redis.call("ZADD", at .. "delayed", string.format("%.0f", now + delay), id)
  else
    wait(id, tenant, rank)
  end
  return 1
end

local function wake()
  for _, id in ipairs(redis.call("ZRANGEBYSCORE", at .. "delayed", "-inf", now, "LIMIT", 0, 100)) do
    redis.call("ZREM", at .. "delayed", id)
    local job = redis.call("HMGET", at .. "job:" .. id, "tenant", "rank")
    wait(id, job[1], job[2])
  end
end

-- Tenants beyond the first, others each time.
local function others()
  local from = tonumber(redis.call("GET", at .. "from") or FIRST)
  local found = redis.call("ZRANGE", at .. "tenants", from, from + MORE - 1)
  if #found < MORE then  -- the end: from the beginning again
    redis.call("DEL", at .. "from")
  else
    redis.call("SET", at .. "from", from + MORE)
  end
  return found
end

-- claim: owner, its free slots, lease in ms, 1 if it leaves the work to workers while there are some, most slots of a tenant,
-- most ms to wait, then each bounded provider and its most.
-- The next job of the tenant who has had the fewest turns, as far as tenant and providers have slots left, or nothing. It looks
-- at so many tenants, and then at as many others each time, so that those who wait for slots of theirs hide nobody.
local function claim(owner, free, lease, yields, tenant_most, longest, ...)
  if yields == "1" and redis.call("ZCOUNT", at .. "workers", now, "+inf") > 0 then
    return false
  end
  wake()
  local most, bounds = {}, {...}
  for i = 1, #bounds, 2 do
    most[bounds[i]] = tonumber(bounds[i + 1])
  end
  local function left(name, bound)
    return bound - tonumber(redis.call("HGET", at .. "used", name) or "0")
  end
  local function next_of(tenant)
    local room = math.min(tonumber(free), left("t:" .. tenant, tonumber(tenant_most)))
    for _, providers in ipairs(room > 0 and redis.call("ZRANGE", at .. "lanes:" .. tenant, 0, 63) or {}) do
      local id = redis.call("ZRANGE", lane(tenant, providers), 0, 0)[1]
      local job = redis.call("HMGET", at .. "job:" .. id, "slots", "weight", "providers", "kind", "created", "why")
      local granted = math.min(room, tonumber(job[1]))
      for provider in string.gmatch(job[3], "[^,]+") do
        if most[provider] then
          granted = math.min(granted, left("p:" .. provider, most[provider]))
        end
      end
      if granted > 0 then
        redis.call("SET", at .. "turn", redis.call("ZSCORE", at .. "tenants", tenant))
        redis.call("ZINCRBY", at .. "tenants", job[2], tenant)
        leave(id, tenant, providers)
        count(tenant, job[3], granted)
        if not job[6] and now - job[5] > tonumber(longest) then
          job[6] = "it has waited for too long"
          redis.call("HSET", at .. "job:" .. id, "why", job[6])
        end
        redis.call("ZADD", at .. "leases", string.format("%.0f", now + lease), id)
        redis.call("HSET", at .. "job:" .. id, "state", "running", "owner", owner, "granted", granted)
        local attempts = redis.call("HINCRBY", at .. "job:" .. id, "attempts", 1)
        local epoch = redis.call("HINCRBY", at .. "job:" .. id, "epoch", 1)
        return {id, tenant, job[4], epoch, attempts, granted, now - job[5], job[6] or ""}
      end
    end
  end
  for _, tenant in ipairs(redis.call("ZRANGE", at .. "tenants", 0, FIRST - 1)) do
    local found = next_of(tenant)
    if found then
      return found
    end
  end
  for _, tenant in ipairs(others()) do
    local found = next_of(tenant)
    if found then
      return found
    end
  end
  return false
end

-- renew: owner, lease in ms, ms that a worker counts as alive ("" for a process that is none), then id and epoch of each of its
-- jobs. Those that it has lost.
local function renew(owner, lease, alive, ...)
  if alive ~= "" then
    redis.call("ZADD", at .. "workers", string.format("%.0f", now + alive), owner)
  end
  local lost, jobs = {}, {...}
  for i = 1, #jobs, 2 do
    if owned(jobs[i], owner, jobs[i + 1]) then
      redis.call("ZADD", at .. "leases", string.format("%.0f", now + lease), jobs[i])
    else
      lost[#lost + 1] = jobs[i]
    end
  end
  return lost
end

-- done: id, owner, epoch.
local function done(id, owner, epoch)
  if not owned(id, owner, epoch) then
    return 0
  end
  release(id)
  redis.call("DEL", at .. "job:" .. id)
  return 1
end

local function fault(id, most, what)
  if redis.call("HINCRBY", at .. "job:" .. id, "faults", 1) < tonumber(most) then
    return false
  end
  redis.call("HSET", at .. "job:" .. id, "why", what .. " " .. most .. " times")
  return true
end

-- What was refused has had its look, which is one turn; the rest of its weight is given back, as far as that saves no turns up.
local function refund(tenant, weight)
  local score = tonumber(redis.call("ZSCORE", at .. "tenants", tenant) or "0")  -- who has left is at the turn when he is back
  local turn = tonumber(redis.call("GET", at .. "turn") or "0")
  local less = math.max(turn, score - weight + 1)
  if less < score then
    redis.call("ZADD", at .. "tenants", string.format("%.0f", less), tenant)
  end
end

-- back: id, owner, epoch, delay in ms, 1 if it counts as an attempt, the most faults if this is one (else ""), 1 if it has begun
-- and waits for others, so that its age counts from when it is to go on.
local function back(id, owner, epoch, delay, counts, most, anew)
  if not owned(id, owner, epoch) then
    return 0
  end
  local tenant, rank = release(id)
  if counts == "0" then
    redis.call("HINCRBY", at .. "job:" .. id, "attempts", -1)
    refund(tenant, tonumber(redis.call("HGET", at .. "job:" .. id, "weight")))
  end
  if most ~= "" then
    fault(id, most, "it broke the process that ran it")
  end
  if anew == "1" then
    redis.call("HSET", at .. "job:" .. id, "created", string.format("%.0f", now + delay))
  end
  if tonumber(delay) > 0 then
    redis.call("HSET", at .. "job:" .. id, "state", "delayed")
    redis.call("ZADD", at .. "delayed", string.format("%.0f", now + delay), id)
  else
    wait(id, tenant, rank)
  end
  return 1
end

-- hurry: id. Has it wait no longer than for its turn.
local function hurry(id)
  local job = redis.call("HMGET", at .. "job:" .. id, "state", "tenant", "rank", "created")
  if job[1] == "delayed" then
    if tonumber(job[4]) > now then
      redis.call("HSET", at .. "job:" .. id, "created", string.format("%.0f", now))
    end
    redis.call("ZREM", at .. "delayed", id)
    wait(id, job[2], job[3])
  end
  return job[1] == "running" and "running" or job[1] and "hurried" or "absent"
end

-- sweep: most faults. Jobs of dead owners wait again; those whose owners died too often are not to be run any more.
-- Returns {given back, among them given up, jobs that wait, delayed, running, workers alive}.
local function sweep(most)
  local again, given_up = 0, 0
  for _, id in ipairs(redis.call("ZRANGEBYSCORE", at .. "leases", "-inf", now, "LIMIT", 0, 1000)) do
    redis.call("HSET", at .. "job:" .. id, "created", string.format("%.0f", now))  -- it had begun, and waits anew
    local tenant, rank = release(id)
    if fault(id, most, "the process that ran it died") then
      given_up = given_up + 1
    end
    wait(id, tenant, rank)
    again = again + 1
  end
  wake()
  redis.call("ZREMRANGEBYSCORE", at .. "workers", "-inf", now)
  local waiting = 0
  for _, tenant in ipairs(redis.call("ZRANGE", at .. "tenants", 0, 255)) do
    for _, providers in ipairs(redis.call("ZRANGE", at .. "lanes:" .. tenant, 0, 63)) do
      waiting = waiting + redis.call("ZCARD", lane(tenant, providers))
    end
  end
  return {again, given_up, waiting, redis.call("ZCARD", at .. "delayed"), redis.call("ZCARD", at .. "leases"),
    redis.call("ZCARD", at .. "workers")}
end

local verbs = {put = put, claim = claim, renew = renew, done = done, back = back, hurry = hurry, sweep = sweep}
return verbs[ARGV[1]](unpack(ARGV, 2))
