-- Access-Request and its answers as octets (RFC 2865, Message-Authenticator of RFC 3579 §3.2).

local md5 = require("md5")

local radius_packet = {}

local ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_REJECT = 1, 2, 3
local VENDOR_SPECIFIC, MESSAGE_AUTHENTICATOR = 26, 80
local CISCO = 9
local HEADER_OCTETS = 20
local PACKET_OCTETS_MAX = 4096 -- RFC 2865 §3
local VALUE_OCTETS_MAX = 253
local VSA_OCTETS_MAX = 247
local PASSWORD_OCTETS_MAX = 128 -- RFC 2865 §5.2

radius_packet.ACCEPT, radius_packet.REJECT = ACCESS_ACCEPT, ACCESS_REJECT
radius_packet.OCTETS_MAX = PACKET_OCTETS_MAX

-- The attributes of an answer by number, Cisco's as "9:1"; numbers are told from texts.
local NAMES = {
    [11] = "Filter-Id", [18] = "Reply-Message", [25] = "Class", [27] = "Session-Timeout",
    [85] = "Acct-Interim-Interval", [89] = "Chargeable-User-Identity",
    ["9:1"] = "Cisco-AVPair", ["9:101"] = "h323-credit-amount", ["9:102"] = "h323-credit-time",
    ["9:103"] = "h323-return-code", ["9:107"] = "h323-preferred-lang",
    ["9:109"] = "h323-billing-model", ["9:110"] = "h323-currency",
}
local INTEGERS = { [27] = true, [85] = true }

local function big_endian(value, octets)
    local out = {}
    for i = octets, 1, -1 do
        local octet = value % 256
        out[i] = string.char(octet)
        value = (value - octet) / 256
    end
    return table.concat(out)
end

-- RFC 2865 §5.2: blocks of 16, each hidden by an MD5 of the secret and the block before it.
local function hidden(password, secret, authenticator)
    password = password:sub(1, PASSWORD_OCTETS_MAX)
    password = password .. ("\0"):rep(-#password % 16)
    if password == "" then
        password = ("\0"):rep(16)
    end
    local out, before = {}, authenticator
    for from = 1, #password, 16 do
        before = md5.xor(password:sub(from, from + 15), md5.sum(secret .. before))
        out[#out + 1] = before
    end
    return table.concat(out)
end

local function text(number, value)
    value = value:sub(1, VALUE_OCTETS_MAX)
    return string.char(number, #value + 2) .. value
end

function radius_packet.integer(number, value)
    return string.char(number, 6) .. big_endian(value, 4)
end

function radius_packet.cisco(number, value)
    value = value:sub(1, VSA_OCTETS_MAX)
    return string.char(VENDOR_SPECIFIC, #value + 8) .. big_endian(CISCO, 4)
        .. string.char(number, #value + 2) .. value
end

radius_packet.text = text

-- The octets of an Access-Request. `attributes` are octets already; Message-Authenticator comes
-- first, where CVE-2024-3596 wants it. `password` nil: none.
function radius_packet.request(identifier, authenticator, secret, attributes, password)
    local parts = { string.char(MESSAGE_AUTHENTICATOR, 18) .. ("\0"):rep(16) }
    for _, attribute in ipairs(attributes) do
        parts[#parts + 1] = attribute
    end
    if password then
        parts[#parts + 1] = text(2, hidden(password, secret, authenticator))
    end
    local body = table.concat(parts)
    local length = HEADER_OCTETS + #body
    assert(length <= PACKET_OCTETS_MAX, "the request does not fit into a packet")
    local header = string.char(ACCESS_REQUEST, identifier) .. big_endian(length, 2)
        .. authenticator
    local signature = md5.hmac(secret, header .. body)
    return header .. string.char(MESSAGE_AUTHENTICATOR, 18) .. signature .. body:sub(19)
end

-- One { key, from, to } for each attribute, or nil when one does not fit.
local function attributes_of(octets, length)
    local found, at = {}, HEADER_OCTETS + 1
    while at <= length do
        local number, size = octets:byte(at, at + 1)
        if not size or size < 2 or at + size - 1 > length then
            return nil
        end
        local key, from = number, at + 2
        if number == VENDOR_SPECIFIC and size >= 8 then
            local a, b, c, d, kind, inner = octets:byte(at + 2, at + 7)
            -- One sub-attribute, as our server sends them.
            if inner == size - 6 then
                key = (a * 16777216 + b * 65536 + c * 256 + d) .. ":" .. kind
                from = at + 8
            end
        end
        found[#found + 1] = { key, from, at + size - 1 }
        at = at + size
    end
    return found
end

-- RFC 3579 §3.2: over the answer with the request's authenticator in it and itself as zeros.
local function signed(octets, found, authenticator, secret)
    for _, attribute in ipairs(found) do
        if attribute[1] == MESSAGE_AUTHENTICATOR then
            local from, to = attribute[2], attribute[3]
            local zeroed = octets:sub(1, 4) .. authenticator .. octets:sub(21, from - 1)
                .. ("\0"):rep(16) .. octets:sub(to + 1)
            return to - from == 15 and md5.hmac(secret, zeroed) == octets:sub(from, to)
        end
    end
    return false
end

-- Code and attributes by name of an authentic answer, else nil: wrong identifier, length or
-- authenticator, or no valid Message-Authenticator.
function radius_packet.answer(octets, identifier, authenticator, secret)
    if #octets < HEADER_OCTETS then
        return nil
    end
    local code, named, high, low = octets:byte(1, 4)
    local length = high * 256 + low
    if named ~= identifier or length < HEADER_OCTETS or length > #octets then
        return nil
    end
    octets = octets:sub(1, length)
    local expected = md5.sum(octets:sub(1, 4) .. authenticator .. octets:sub(21) .. secret)
    local found = attributes_of(octets, length)
    if expected ~= octets:sub(5, 20) or not found
        or not signed(octets, found, authenticator, secret) then
        return nil
    end
    local values = {}
    for _, attribute in ipairs(found) do
        local name = NAMES[attribute[1]]
        local value = octets:sub(attribute[2], attribute[3])
        if name and INTEGERS[attribute[1]] then
            local a, b, c, d = value:byte(1, 4)
            value = d and string.format("%.0f", a * 16777216 + b * 65536 + c * 256 + d) or ""
        end
        if name then
            values[name] = value
        end
    end
    return code, values
end

return radius_packet
