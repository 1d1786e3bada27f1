#!lua name=assay_velocity
--[[
The velocity state inside Valkey: what `kernel.py` does, for many processes (docs/decisions/0017-velocity-in-valkey.md).

Integers only, and the same bits as the kernel. Numbers of Lua are doubles, exact up to 2^53: times fit, sums do not,
so a sum is two words of 32 bits, modulo 2^64 together as int64 wraps.

An entity is one string: a head, then three lists in the order of time: events (microseconds), hours and days. A list
holds running totals: each record says how many there were, and what sum, up to and including its own time. What lies in
a window is the difference of two records, found by halving, however many lie between. The first record of a list is
what was dropped so far. An entity with many events keeps them by minute in a hash beside it, and in the string's list
one record for each minute. A change of this file that old processes could not live with takes a new number in all names.
]]

local MINUTE_US, HOUR_US, DAY_US = 60000000, 3600000000, 86400000000
local SHORT_US, LONG_US, KEEP_EXACT_US = 5 * MINUTE_US, HOUR_US, 2 * HOUR_US
local KEEP_HOURS, KEEP_DAYS, LONGEST_US = 48, 60, 30 * DAY_US
local WORD = 4294967296
local ENTITIES = 9
local SPREAD_FROM = 512 -- events, from which on they are kept by minute
local UNSAVED_MS, FENCE_MS = 3600000, 10000
local OBSERVE, COUNT, RESTORE = 0, 1, 2
local TOO_OLD, REPEATED, ADDED = 1, 2, 3

-- The libraries of Lua are not there yet while this is loaded: `prepare` finds them at the first call.
local pack, unpack_, floor, max, sub, concat
local NO_EVENTS, NO_BUCKETS, ROW
local HEAD, HEAD_SIZE = '<I8I8i8i4i4BI2I2', 37
local EVENT = { start = '<I8', record = '<I8I4I4I4', size = 20 }
local BUCKET = { start = '<I4', record = '<I4I4I4I4', size = 16 }

local function prepare()
    pack, unpack_, floor, max, sub, concat =
        struct.pack, struct.unpack, math.floor, math.max, string.sub, table.concat
    NO_EVENTS, NO_BUCKETS = string.rep('\0', EVENT.size), string.rep('\0', BUCKET.size)
    ROW = '<' .. string.rep('I8I4I4', 5) .. 'i8i8i8i8i8'
end

-- Lists of running totals: start, count, and the sum as its low and its high word

local function place(list, kind, start)
    local size, first = kind.size, kind.start
    local low, high = 0, #list / size - 1
    if unpack_(first, list, high * size + 1) <= start then return high end
    high = high - 1
    while low < high do
        local middle = floor((low + high + 1) / 2)
        if unpack_(first, list, middle * size + 1) <= start then low = middle else high = middle - 1 end
    end
    return low
end

local function totals(list, kind, start)
    local _, count, low, high = unpack_(kind.record, list, place(list, kind, start) * kind.size + 1)
    return count, low, high
end

local function plus(low, high, more_low, more_high)
    low, high = low + more_low, high + more_high
    if low >= WORD then low, high = low - WORD, high + 1 end
    return low, high % WORD
end

local function minus(low, high, less_low, less_high)
    low, high = low - less_low, high - less_high
    if low < 0 then low, high = low + WORD, high - 1 end
    return low, high % WORD
end

-- Return the list with one more at `start`; records after it are rewritten, in order of time there are none.
local function added(list, kind, start, amount_low, amount_high)
    local size, record = kind.size, kind.record
    local at = place(list, kind, start)
    local found, count, low, high = unpack_(record, list, at * size + 1)
    low, high = plus(low, high, amount_low, amount_high)
    local before = list
    if found == start then
        before = sub(list, 1, at * size)
    elseif (at + 1) * size < #list then
        before = sub(list, 1, (at + 1) * size)
    end
    local changed = before .. pack(record, start, (count + 1) % WORD, low, high)
    if (at + 1) * size == #list then return changed end
    local parts = { changed }
    for position = (at + 1) * size + 1, #list, size do
        local when, so_far, sum_low, sum_high = unpack_(record, list, position)
        sum_low, sum_high = plus(sum_low, sum_high, amount_low, amount_high)
        parts[#parts + 1] = pack(record, when, (so_far + 1) % WORD, sum_low, sum_high)
    end
    return concat(parts)
end

-- Return the list without what is not after `limit`.
local function dropped(list, kind, limit)
    if #list == kind.size or unpack_(kind.start, list, kind.size + 1) > limit then return list end
    return sub(list, place(list, kind, limit) * kind.size + 1)
end

-- Entities

local function decoded(value)
    local first, last, place_time, latitude, longitude, is_spread, events, hours = unpack_(HEAD, value)
    local hours_from = HEAD_SIZE + 1 + events * EVENT.size
    local days_from = hours_from + hours * BUCKET.size
    return {
        first = first, last = last, place_time = place_time, latitude = latitude, longitude = longitude,
        is_spread = is_spread == 1,
        events = sub(value, HEAD_SIZE + 1, hours_from - 1),
        hours = sub(value, hours_from, days_from - 1),
        days = sub(value, days_from),
    }
end

local function new_entity()
    return {
        first = -1, last = -1, place_time = -1, latitude = 0, longitude = 0, is_spread = false,
        events = NO_EVENTS, hours = NO_BUCKETS, days = NO_BUCKETS,
    }
end

local function encoded(entity)
    return pack(
        HEAD, entity.first, entity.last, entity.place_time, entity.latitude, entity.longitude,
        entity.is_spread and 1 or 0, #entity.events / EVENT.size, #entity.hours / BUCKET.size
    ) .. entity.events .. entity.hours .. entity.days
end

local function spread_key(key) return key .. 'm' end

-- Return the entity, nil where there is none: also when Valkey has thrown a part of it away for want of memory.
local function loaded(key, value)
    if not value then return nil end
    local entity = decoded(value)
    if entity.is_spread and redis.call('HLEN', spread_key(key)) ~= #entity.events / EVENT.size - 1 then return nil end
    return entity
end

-- Count and sum of the events up to and including `time`.
local function events_until(key, entity, time)
    if not entity.is_spread then return totals(entity.events, EVENT, time) end
    local minute = floor(time / MINUTE_US)
    local count, low, high = totals(entity.events, EVENT, minute - 1)
    local minute_list = redis.call('HGET', spread_key(key), minute)
    if not minute_list then return count, low, high end
    local more, more_low, more_high = totals(minute_list, EVENT, time)
    low, high = plus(low, high, more_low, more_high)
    return (count + more) % WORD, low, high
end

local function between(count, low, high, less, less_low, less_high)
    low, high = minus(low, high, less_low, less_high)
    return (count - less) % WORD, low, high
end

-- Return the row of a reading at `time`; what was kept no longer is not seen, whether it was dropped yet or not.
local function reading(key, entity, time)
    local kept_after = entity.last - KEEP_EXACT_US
    local short_after, long_after = time - SHORT_US, time - LONG_US
    local c5, l5, h5, c1, l1, h1 = 0, 0, 0, 0, 0, 0
    if time > kept_after and long_after < entity.last then
        local count, low, high = events_until(key, entity, time)
        c1, l1, h1 = between(count, low, high, events_until(key, entity, max(long_after, kept_after)))
        if short_after < entity.last then
            c5, l5, h5 = between(count, low, high, events_until(key, entity, max(short_after, kept_after)))
        end
    end
    local hour, day = floor(time / HOUR_US), floor(time / DAY_US)
    local hours_after = max(hour - 24, floor(entity.last / HOUR_US) - KEEP_HOURS)
    local days_kept = floor(entity.last / DAY_US) - KEEP_DAYS
    local c24, l24, h24, c7, l7, h7, c30, l30, h30 = 0, 0, 0, 0, 0, 0, 0, 0, 0
    if hour > hours_after then
        local count, low, high = totals(entity.hours, BUCKET, hour)
        c24, l24, h24 = between(count, low, high, totals(entity.hours, BUCKET, hours_after))
    end
    if day > days_kept then
        local count, low, high = totals(entity.days, BUCKET, day)
        c7, l7, h7 = between(count, low, high, totals(entity.days, BUCKET, max(day - 7, days_kept)))
        c30, l30, h30 = between(count, low, high, totals(entity.days, BUCKET, max(day - 30, days_kept)))
    end
    return pack(
        ROW, c5, l5, h5, c1, l1, h1, c24, l24, h24, c7, l7, h7, c30, l30, h30,
        entity.first, entity.last, entity.place_time, entity.latitude, entity.longitude
    )
end

local function into_minute(key, list, time, low, high)
    local spread, minute = spread_key(key), floor(time / MINUTE_US)
    local of_minute = redis.call('HGET', spread, minute) or NO_EVENTS
    redis.call('HSET', spread, minute, added(of_minute, EVENT, time, low, high))
    return added(list, EVENT, minute, low, high)
end

-- Move the events of an entity from its string to a hash with a field for each minute.
local function spread(key, entity)
    redis.call('UNLINK', spread_key(key))
    local minutes, order, index = {}, {}, NO_EVENTS
    local _, count, low, high = unpack_(EVENT.record, entity.events)
    for position = EVENT.size + 1, #entity.events, EVENT.size do
        local time, so_far, sum_low, sum_high = unpack_(EVENT.record, entity.events, position)
        local minute = floor(time / MINUTE_US)
        local list = minutes[minute]
        if not list then
            order[#order + 1] = minute
            list = { count = count, low = low, high = high, NO_EVENTS }
            minutes[minute] = list
        end
        list[#list + 1] = pack(EVENT.record, time, between(so_far, sum_low, sum_high, list.count, list.low, list.high))
        count, low, high = so_far, sum_low, sum_high
        list.until_count, list.until_low, list.until_high = so_far, sum_low, sum_high
    end
    local first_count, first_low, first_high = select(2, unpack_(EVENT.record, entity.events))
    local parts = { index }
    for _, minute in ipairs(order) do
        local list = minutes[minute]
        parts[#parts + 1] = pack(
            EVENT.record, minute,
            between(list.until_count, list.until_low, list.until_high, first_count, first_low, first_high)
        )
        redis.call('HSET', spread_key(key), minute, concat(list))
    end
    entity.events, entity.is_spread = concat(parts), true
end

local function forget_minutes(key, entity, limit)
    local kept = dropped(entity.events, EVENT, limit)
    for position = EVENT.size + 1, #entity.events - #kept + EVENT.size, EVENT.size do
        redis.call('HDEL', spread_key(key), unpack_(EVENT.start, entity.events, position))
    end
    entity.events = kept
end

local function add_event(key, entity, time, low, high)
    local newest = max(entity.last, time)
    local kept_after = newest - KEEP_EXACT_US
    if time <= kept_after then return end
    if entity.is_spread and entity.last <= kept_after then -- nothing of it is kept
        redis.call('UNLINK', spread_key(key))
        entity.events, entity.is_spread = NO_EVENTS, false
    end
    if entity.is_spread then
        entity.events = into_minute(key, entity.events, time, low, high)
        forget_minutes(key, entity, floor(kept_after / MINUTE_US) - 1)
        return
    end
    entity.events = dropped(added(entity.events, EVENT, time, low, high), EVENT, kept_after)
    if #entity.events > SPREAD_FROM * EVENT.size then spread(key, entity) end
end

local function add_bucket(list, last, time, width, keep, low, high)
    local kept_after = floor(max(last, time) / width) - keep
    local start = floor(time / width)
    if start <= kept_after then return list end
    return dropped(added(list, BUCKET, start, low, high), BUCKET, kept_after)
end

local function add(key, entity, transaction)
    local time, low, high = transaction.time, transaction.amount_low, transaction.amount_high
    add_event(key, entity, time, low, high)
    entity.hours = add_bucket(entity.hours, entity.last, time, HOUR_US, KEEP_HOURS, low, high)
    entity.days = add_bucket(entity.days, entity.last, time, DAY_US, KEEP_DAYS, low, high)
    if entity.first < 0 or time < entity.first then entity.first = time end
    if time > entity.last then entity.last = time end
    if transaction.has_place and time > entity.place_time then
        entity.place_time = time
        entity.latitude, entity.longitude = transaction.latitude, transaction.longitude
    end
end

-- How long a key is kept whose newest time is `time`: a day longer than it means anything.
local function milliseconds_left(time, as_of)
    return max(math.ceil((time + LONGEST_US + DAY_US - as_of) / 1000), DAY_US / 1000)
end

local function parsed(words)
    local mode, time, received_at, as_of, amount_low, amount_high, has_place, latitude, longitude, mask, digest =
        unpack_('<BI8I8I8I4I4Bi4i4I2c16', words)
    return {
        mode = mode, time = time, horizon = received_at - LONGEST_US, as_of = as_of,
        amount_low = amount_low, amount_high = amount_high,
        has_place = has_place == 1, latitude = latitude, longitude = longitude, mask = mask, digest = digest,
    }
end

-- Return whether it is to be added: it is within the longest window, and was not before.
local function noted(seen, transaction, again)
    if transaction.time <= transaction.horizon then return TOO_OLD end
    local before = redis.call('GET', seen)
    local is_new = not before or tonumber(before) <= transaction.horizon
    if is_new then
        redis.call(
            'SET', seen, string.format('%.0f', transaction.time),
            'PX', milliseconds_left(transaction.time, transaction.as_of)
        )
    end
    return (is_new or again) and ADDED or REPEATED
end

local function read_and_add(keys, transaction, answer)
    local known, rows, next_key = {}, {}, 4
    local values = #keys > 3 and redis.call('MGET', unpack(keys, 4)) or {}
    local bits = transaction.mask
    for entity_number = 1, ENTITIES do
        local is_named = bits % 2 == 1
        bits = floor(bits / 2)
        if not is_named then
            known[entity_number] = '\0'
        else
            local key = keys[next_key]
            local entity = loaded(key, values[next_key - 3])
            next_key = next_key + 1
            if entity and entity.last > transaction.horizon then
                known[entity_number] = '\2'
                if transaction.mode == OBSERVE then
                    rows[#rows + 1] = reading(key, entity, transaction.time)
                end
            else
                known[entity_number] = '\1'
                if answer == ADDED and values[next_key - 4] then redis.call('UNLINK', spread_key(key)) end
                entity = new_entity()
            end
            if answer == ADDED then
                add(key, entity, transaction)
                local left = milliseconds_left(entity.last, transaction.as_of)
                redis.call('SET', key, encoded(entity), 'PX', left)
                if entity.is_spread then redis.call('PEXPIRE', spread_key(key), left) end
            end
        end
    end
    return concat(known) .. concat(rows)
end

-- The state of an institution

local function now_ms()
    if not pack then prepare() end
    local time = redis.call('TIME')
    return time[1] * 1000 + floor(time[2] / 1000)
end

local function is_fenced(fenced_until) return fenced_until and tonumber(fenced_until) > now_ms() end

--[[
KEYS: state, seen, unsaved, and those of the entities that are named; ARGV: generation, words (`parsed`).
Answers {generation} when that is another one ('' for none, or while it is changed); otherwise
{generation, sequence, whether it was counted, reading}.
]]
local function observe(keys, args)
    if not pack then prepare() end
    local generation, words = args[1], args[2]
    local transaction = parsed(words)
    if transaction.mode == RESTORE then
        local answer = noted(keys[2], transaction, false)
        if answer == ADDED then read_and_add(keys, transaction, answer) end
        return { generation }
    end
    local state = redis.call('HMGET', keys[1], 'generation', 'fenced_until')
    if not state[1] or is_fenced(state[2]) then return { '' } end
    if state[1] ~= generation then return { state[1] } end
    local unsaved = redis.call('GET', keys[3])
    if transaction.mode == COUNT then
        redis.call('UNLINK', keys[3])
        unsaved = false
    elseif unsaved and sub(unsaved, 1, 16) == transaction.digest then
        return { generation, unpack_('<I8', unsaved, 17), 1, sub(unsaved, 25) }
    end
    local answer = noted(keys[2], transaction, unsaved and true or false)
    local found = read_and_add(keys, transaction, answer)
    local sequence = redis.call('HINCRBY', keys[1], 'sequence', 1)
    if answer == ADDED and transaction.mode == OBSERVE then
        redis.call('SET', keys[3], transaction.digest .. pack('<I8', sequence) .. found, 'PX', UNSAVED_MS)
    end
    return { generation, sequence, answer == TOO_OLD and 0 or 1, found }
end

-- KEYS: state, and the unsaved readings of decisions that are durable now; ARGV: the generation they were counted in.
-- Answers whether they are counted in the state that is in use.
local function saved(keys, args)
    if #keys > 1 then redis.call('UNLINK', unpack(keys, 2)) end
    local state = redis.call('HMGET', keys[1], 'generation', 'fenced_until')
    return state[1] == args[1] and not is_fenced(state[2]) and 1 or 0
end

-- Which run of which server this is. One that ended may not have written, or copied, all that it had counted.
local function this_run() return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') end

-- KEYS: state; ARGV: a generation. Begins the state of an institution that has none; answers the generation in use.
local function begin(keys, args)
    if redis.call('HSETNX', keys[1], 'generation', args[1]) == 1 then redis.call('HSET', keys[1], 'run', this_run()) end
    return redis.call('HGET', keys[1], 'generation')
end

-- KEYS: state. Answers its generation and its sequence, and whether all of it was counted in this run of this server.
local function look(keys)
    local state = redis.call('HMGET', keys[1], 'generation', 'sequence', 'run')
    return { state[1], state[2], state[3] == this_run() and 1 or 0 }
end

-- KEYS: state, lease; ARGV: the lease's token. For some seconds nobody observes: what is decided is counted later.
local function fence(keys, args)
    if redis.call('GET', keys[2]) ~= args[1] then return 0 end
    if redis.call('EXISTS', keys[1]) == 1 then
        redis.call('HSET', keys[1], 'fenced_until', string.format('%.0f', now_ms() + FENCE_MS))
    end
    return 1
end

-- KEYS: state, lease; ARGV: the lease's token, a generation, the last sequence in the database. Puts the generation to use;
-- answers 0 when another one rebuilds by now, or when others observed since the fence.
local function switch(keys, args)
    if redis.call('GET', keys[2]) ~= args[1] then return 0 end
    local state = redis.call('HMGET', keys[1], 'generation', 'fenced_until', 'sequence')
    if state[1] and not is_fenced(state[2]) then return 0 end
    local sequence = math.max(tonumber(state[3] or 0), tonumber(args[3]))
    redis.call('HSET', keys[1], 'generation', args[2], 'sequence', string.format('%.0f', sequence), 'run', this_run())
    redis.call('HDEL', keys[1], 'fenced_until')
    return 1
end

-- KEYS: lease; ARGV: its token, milliseconds. Keeps a lease, or gives it back (0 milliseconds); answers whether it was held.
local function keep_lease(keys, args)
    if redis.call('GET', keys[1]) ~= args[1] then return 0 end
    if args[2] == '0' then redis.call('UNLINK', keys[1]) else redis.call('PEXPIRE', keys[1], args[2]) end
    return 1
end

redis.register_function('assay_velocity_observe', observe)
redis.register_function('assay_velocity_saved', saved)
redis.register_function('assay_velocity_begin', begin)
redis.register_function('assay_velocity_look', look)
redis.register_function('assay_velocity_fence', fence)
redis.register_function('assay_velocity_switch', switch)
redis.register_function('assay_velocity_keep_lease', keep_lease)
