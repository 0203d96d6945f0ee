-- Operations on 32 bits, always between 0 and 2^32 - 1, in every Lua from 5.1 to 5.4 and LuaJIT.

local WORD = 4294967296

-- Lua 5.3 and later have operators; to older ones they are syntax errors, so they stand in a text.
local OPERATORS = [[
    return {
        band = function(a, b) return a & b end,
        bor = function(a, b) return a | b end,
        bxor = function(a, b) return a ~ b end,
    }
]]

-- Four bits at a time: slow, and fast enough for a packet.
local function by_table()
    local function combined(bit_of)
        local nibbles = {}
        for a = 0, 15 do
            for b = 0, 15 do
                local value, weight, x, y = 0, 1, a, b
                for _ = 1, 4 do
                    value = value + weight * bit_of(x % 2, y % 2)
                    x, y, weight = math.floor(x / 2), math.floor(y / 2), weight * 2
                end
                nibbles[a * 16 + b] = value
            end
        end
        return function(a, b)
            local value, weight = 0, 1
            for _ = 1, 8 do
                local x, y = a % 16, b % 16
                value = value + weight * nibbles[x * 16 + y]
                a, b, weight = (a - x) / 16, (b - y) / 16, weight * 16
            end
            return value
        end
    end
    return {
        band = combined(function(x, y) return x * y end),
        bor = combined(function(x, y) return math.max(x, y) end),
        bxor = combined(function(x, y) return (x + y) % 2 end),
    }
end

-- LuaJIT's and Lua 5.2's libraries; the first one's results have a sign.
local function by_library(library)
    local function unsigned(operation)
        return function(a, b)
            return operation(a, b) % WORD
        end
    end
    return {
        band = unsigned(library.band),
        bor = unsigned(library.bor),
        bxor = unsigned(library.bxor),
    }
end

local function best()
    local compile = rawget(_G, "loadstring") or load
    local operators = compile(OPERATORS)
    if operators then
        return operators()
    end
    for _, name in ipairs({ "bit", "bit32" }) do
        local found, library = pcall(require, name)
        if found and type(library) == "table" then
            return by_library(library)
        end
    end
    return by_table()
end

local bits = best()
bits.by_table = by_table

function bits.bnot(a)
    return WORD - 1 - a
end

return bits
