-- Replaces a reservation by what was really used. Does nothing the second time, so it may be sent again.
-- KEYS  tokens, budget, held (as in reserve.lua), a marker of this settlement
-- ARGV  tpm, tokens reserved, tokens used, has a budget (0 or 1), amount held, cost, id, seconds that the budget is kept
--       tpm is -1 where there is none. Money is in pico-USD.
local MINUTE = 60000000
if not redis.call('SET', KEYS[4], '1', 'NX', 'EX', 7200) then return 0 end

local tpm = tonumber(ARGV[1])
local full_at = tpm > 0 and redis.call('GET', KEYS[1])
if full_at then
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local units = ARGV[3] - math.min(ARGV[2], tpm)
    full_at = math.min(full_at + units * MINUTE / tpm, now + 2 * MINUTE)
    if full_at > now then
        redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1000)
    else
        redis.call('DEL', KEYS[1])
    end
end

if ARGV[4] == '1' then
    if redis.call('ZREM', KEYS[3], ARGV[7] .. ':' .. ARGV[5]) == 1 then redis.call('HINCRBY', KEYS[2], 'held', '-' .. ARGV[5]) end
    if ARGV[6] ~= '0' then redis.call('HINCRBY', KEYS[2], 'spent', ARGV[6]) end
    redis.call('EXPIRE', KEYS[2], ARGV[8])
end
return 1
