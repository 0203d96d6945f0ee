-- What may go into a dial string, a command of the switch, or a packet. Everything that comes
-- from a caller, a carrier or the server passes here first.

local check = {}

-- RFC 2865 §5: a text of 248 octets and more in a vendor's attribute makes mod_xml_radius send a
-- malformed packet. 64 is more than any number or name needs.
check.TEXT_OCTETS_MAX = 64
check.NUMBER_OCTETS_MAX = 32
check.DIAL_OCTETS_MAX = 240

-- A number to call: digits, * and #, perhaps a + before them.
function check.called(text)
    if type(text) == "string" and #text <= check.NUMBER_OCTETS_MAX
        and text:find("^%+?[%d%*#]+$") then
        return text
    end
    return nil
end

-- Who calls: a number or a SIP user, cut to what fits; nil when there is anything strange in it.
function check.ani(text)
    if type(text) == "string" and text:find("^%+?[%w%*#%._~%-@]+$") then
        return text:sub(1, check.TEXT_OCTETS_MAX)
    end
    return nil
end

-- An account code: whatever the server allows in one, which is all but blanks.
function check.account(text)
    if type(text) == "string" and #text <= check.TEXT_OCTETS_MAX
        and text:find("^[^%s%c]+$") then
        return text
    end
    return nil
end

-- An extension with or without its domain, a resource group.
function check.name(text)
    if type(text) == "string" and #text <= check.TEXT_OCTETS_MAX
        and text:find("^[%w%._@%+%-]+$") then
        return text
    end
    return nil
end

-- An IPv4 or IPv6 address.
function check.address(text)
    if type(text) == "string" and #text <= check.TEXT_OCTETS_MAX and text:find("^[%x%.:]+$") then
        return text
    end
    return nil
end

function check.pin(text)
    if type(text) == "string" and #text <= check.NUMBER_OCTETS_MAX and text:find("^%d+$") then
        return text
    end
    return nil
end

function check.uuid(text)
    if type(text) == "string" and #text == 36 and text:find("^[%x%-]+$") then
        return text
    end
    return nil
end

-- What may be dialled over, and how the rest of a dial string looks. Others are no carriers, and
-- loopback/app=NAME:DATA or loopback/NAME:DATA/CONTEXT/inline would execute any application.
local ENDPOINTS = {
    sofia = "^[%w/:@%._%+%-;=~%*#]+$",
    user = "^[%w@%._%+%-]+$",
    verto = "^[%w/:@%._%+%-]+$",
    freetdm = "^[%w/%+%*#]+$",
    loopback = "^[%w%+%*#]+/?[%w_%-]*$",
}

-- A dial string of one leg. No comma, bar, brace, bracket, quote, blank, $ or <: they would be
-- another leg, a variable or an expansion. Nor :_:, which begins another originate.
function check.dial(text)
    if type(text) ~= "string" or #text > check.DIAL_OCTETS_MAX or text:find(":_:", 1, true) then
        return nil
    end
    local endpoint, rest = text:match("^(%l+)/(.+)$")
    local pattern = endpoint and ENDPOINTS[endpoint]
    return pattern and rest:find(pattern) and text or nil
end

-- What may stand between single quotes in a dial string's variables.
function check.quotable(text)
    return type(text) == "string" and text:find("^[%w%._@%+%-/%*#]+$") ~= nil
end

return check
