-- name=value in any order; the first bare word is the account code, the second the destination.

local channel = require("channel")
local check = require("check")

local arguments = {}

local CHECKS = {
    acct = check.account,
    ext = check.name,
    ani = check.ani,
    dest = check.called,
    rg_in = check.name,
    rg_out = check.name,
    mode = check.name,
    did = check.called,
    announce = check.name,
}
local MODES = { auth = true, query = true, card = true, did = true }
local BARE = { "acct", "dest" }
local ARGUMENTS_MAX = 16

-- The arguments, or nil and what is wrong. A name that comes twice is wrong: the second one may be
-- a blank in a number that somebody has dialled.
function arguments.parse(words)
    local given, bare = {}, 0
    if #words > ARGUMENTS_MAX then
        return nil, "more than " .. ARGUMENTS_MAX .. " arguments"
    end
    for _, word in ipairs(words) do
        local name, value = word:match("^([%a_]+)=(.*)$")
        if not name then
            bare = bare + 1
            name, value = BARE[bare], word
        end
        if not name or not CHECKS[name] then
            return nil, "unknown argument " .. word:sub(1, check.TEXT_OCTETS_MAX)
        elseif given[name] then
            return nil, name .. " is given twice"
        elseif value ~= "" then
            given[name] = CHECKS[name](value)
            if not given[name] then
                return nil, name .. " is no " .. name .. ": "
                    .. value:sub(1, check.TEXT_OCTETS_MAX)
            end
        end
    end
    given.mode = given.mode or "auth"
    if not MODES[given.mode] then
        return nil, "mode is auth, query, card or did"
    end
    return given
end

-- user@realm of a caller that FreeSWITCH has authenticated; nil for everybody else. The From user
-- is what the caller says of himself, and is never taken.
local function authenticated(session)
    local user = channel.get(session, "sip_auth_username")
    if not user or channel.get(session, "sip_authorized") ~= "true" then
        return nil
    end
    local realm = channel.get(session, "sip_auth_realm")
    return check.name(realm and user .. "@" .. realm or user)
end

-- What is asked of the server: the arguments, and where they say nothing what the channel knows.
-- Without an account code the server finds it: by extension, ANI, inbound resource group.
function arguments.request(session, given)
    local request = {
        mode = given.mode,
        account = given.acct
            or check.account(channel.get(session, "sky_account"))
            or check.account(channel.get(session, "accountcode")),
        ext = given.ext or authenticated(session),
        ani = given.ani or check.ani(channel.get(session, "caller_id_number")),
        called = given.dest or check.called(channel.get(session, "destination_number")),
        rg_in = given.rg_in or check.name(channel.get(session, "sky_rg_in")),
        rg_out = given.rg_out,
        did = given.did,
        pin = check.pin(channel.get(session, "sky_pin")),
    }
    if given.mode == "card" and request.account and not request.pin then
        -- The server would take it that the switch knows whose call it is.
        return nil, "a card's number without its PIN (the variable sky_pin)"
    elseif given.mode == "query" then
        request.called = nil
    elseif not request.called then
        return nil, "no number to call"
    end
    return request
end

return arguments
