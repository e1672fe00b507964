-- Takes what one request may use at most from a caller's allowance: all of it, or nothing.
-- KEYS  requests, tokens (times at which each bucket is full again), budget (hash: spent, held), held (sorted set: id:amount by expiry)
-- ARGV  rpm, tpm, tokens, budget, cost, id, milliseconds that the reservation holds, seconds that the budget is kept
--       Bounds are -1 where there is none. Money is in pico-USD. Time is the server's.
-- Returns refused by (0 nobody, 1 requests, 2 tokens, 3 budget), and in microseconds or as counts:
--       retry after, requests left, requests' reset, tokens left, tokens' reset; then budget left (text) and held by others (text)
local MINUTE = 60000000
local rpm, tpm, tokens = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local budget, cost = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Generic cell rate: the time at which the bucket is full again moves on with each unit taken, at most a minute ahead.
local function take(key, limit, units)
    if limit < 0 then return nil, 0, -1, 0 end
    local interval = MINUTE / limit
    local full_at = tonumber(redis.call('GET', key) or now)
    if full_at > now + 2 * MINUTE then full_at = now + MINUTE end -- the clock was set back
    full_at = math.max(full_at, now)
    local after = full_at + math.min(units, limit) * interval
    if after > now + MINUTE + 1 then
        return nil, math.ceil(after - now - MINUTE), math.max(0, math.floor((now + MINUTE - full_at) / interval)), math.ceil(full_at - now)
    end
    return after, 0, math.floor((now + MINUTE - after) / interval + 0.000001), math.ceil(after - now)
end

local function keep(key, full_at)
    if full_at then redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1000) end
end

local requests_after, requests_wait, requests_left, requests_reset = take(KEYS[1], rpm, 1)
local tokens_after, tokens_wait, tokens_left, tokens_reset = take(KEYS[2], tpm, tokens)

local left, held = -1, 0
if budget >= 0 then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now / 1000, 'LIMIT', 0, 1000)) do
        redis.call('ZREM', KEYS[4], member)
        redis.call('HINCRBY', KEYS[3], 'held', '-' .. string.match(member, '%d+$'))
    end
    held = tonumber(redis.call('HGET', KEYS[3], 'held') or 0)
    left = budget - tonumber(redis.call('HGET', KEYS[3], 'spent') or 0) - held
end

local refused, wait = 0, 0
if requests_wait > 0 then
    refused, wait = 1, requests_wait
elseif tokens_wait > 0 then
    refused, wait = 2, tokens_wait
elseif budget >= 0 and cost > left then
    refused = 3
else
    keep(KEYS[1], requests_after)
    keep(KEYS[2], tokens_after)
    if budget >= 0 then
        redis.call('HINCRBY', KEYS[3], 'held', ARGV[5])
        redis.call('ZADD', KEYS[4], math.floor(now / 1000) + ARGV[7], ARGV[6] .. ':' .. ARGV[5])
        redis.call('EXPIRE', KEYS[3], ARGV[8])
        redis.call('EXPIRE', KEYS[4], ARGV[8])
        left = left - cost
    end
end
return {refused, wait, requests_left, requests_reset, tokens_left, tokens_reset, string.format('%.0f', left), string.format('%.0f', held)}
