-- MD5 (RFC 1321) and HMAC-MD5 (RFC 2104): what RADIUS is signed and hidden with.

local bits = require("bits")

local md5 = {}

local WORD = 4294967296
local BLOCK = 64

local SHIFTS = { { 7, 12, 17, 22 }, { 5, 9, 14, 20 }, { 4, 11, 16, 23 }, { 6, 10, 15, 21 } }
local SINES, POWERS = {}, {}
for i = 1, 64 do
    SINES[i] = math.floor(math.abs(math.sin(i)) * WORD)
end
for i = 0, 32 do
    POWERS[i] = 2 ^ i
end

local function rotated(value, by)
    local high = POWERS[32 - by]
    local low = value % high
    return low * POWERS[by] + (value - low) / high
end

-- RFC 1321 §3.4: the functions F, G, H, I and the word of each step.
local function step(i, b, c, d)
    local band, bor, bxor, bnot = bits.band, bits.bor, bits.bxor, bits.bnot
    if i < 16 then
        return bor(band(b, c), band(bnot(b), d)), i
    elseif i < 32 then
        return bor(band(d, b), band(bnot(d), c)), (5 * i + 1) % 16
    elseif i < 48 then
        return bxor(bxor(b, c), d), (3 * i + 5) % 16
    end
    return bxor(c, bor(b, bnot(d))), (7 * i) % 16
end

local function block(text, from, a0, b0, c0, d0)
    local words = {}
    for i = 0, 15 do
        local p, q, r, s = text:byte(from + i * 4, from + i * 4 + 3)
        words[i] = p + q * 256 + r * 65536 + s * 16777216
    end
    local a, b, c, d = a0, b0, c0, d0
    for i = 0, 63 do
        local f, word = step(i, b, c, d)
        local sum = (a + f + SINES[i + 1] + words[word]) % WORD
        local shift = SHIFTS[math.floor(i / 16) + 1][i % 4 + 1]
        a, d, c, b = d, c, b, (b + rotated(sum, shift)) % WORD
    end
    return (a0 + a) % WORD, (b0 + b) % WORD, (c0 + c) % WORD, (d0 + d) % WORD
end

local function little_endian(value, octets)
    local out = {}
    for i = 1, octets do
        local octet = value % 256
        out[i] = string.char(octet)
        value = (value - octet) / 256
    end
    return table.concat(out)
end

function md5.sum(text)
    local padding = (BLOCK - 9 - #text) % BLOCK
    local padded = text .. "\128" .. ("\0"):rep(padding) .. little_endian(#text * 8, 8)
    local a, b, c, d = 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476
    for from = 1, #padded, BLOCK do
        a, b, c, d = block(padded, from, a, b, c, d)
    end
    return little_endian(a, 4) .. little_endian(b, 4) .. little_endian(c, 4)
        .. little_endian(d, 4)
end

-- The octets of `text`, each combined with one of `key`, which is as long.
function md5.xor(text, key)
    local out = {}
    for i = 1, #text do
        out[i] = string.char(bits.bxor(text:byte(i), key:byte(i)))
    end
    return table.concat(out)
end

function md5.hmac(key, text)
    if #key > BLOCK then
        key = md5.sum(key)
    end
    key = key .. ("\0"):rep(BLOCK - #key)
    local inner = md5.xor(key, ("\54"):rep(BLOCK))
    local outer = md5.xor(key, ("\92"):rep(BLOCK))
    return md5.sum(outer .. md5.sum(inner .. text))
end

return md5
