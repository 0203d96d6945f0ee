-- The server's answer, whatever carried it. What is missing is never taken for "unlimited".

local channel = require("channel")
local reasons = require("reasons")
local routes = require("routes")

local reply = {}

-- Every attribute that an answer may have. Before a question all of them are taken from the
-- channel: those of the last answer must not stand in for ones that got lost.
reply.NAMES = {
    "Session-Timeout", "h323-credit-time", "h323-credit-amount", "h323-currency",
    "h323-return-code", "h323-preferred-lang", "h323-billing-model", "Chargeable-User-Identity",
    "Filter-Id", "Reply-Message", "Cisco-AVPair", "Class", "Acct-Interim-Interval",
}

local SECONDS_MAX = 31 * 86400

local function bare(value)
    return value and (value:match("^h323%-[%a%-]+=(.*)$") or value)
end

-- `result` is "0" for an Accept and "2" for a Reject, as radius_auth says it; anything else is
-- silence. `get` returns an attribute's text or nil. Of a call that is granted, a limit is
-- demanded (`limited`).
function reply.read(result, get, limited, routes_max)
    local code = channel.whole(bare(get("h323-return-code")))
    local answer = {
        granted = false,
        code = code,
        text = get("Reply-Message"),
        credit_seconds = channel.whole(bare(get("h323-credit-time"))),
        balance = bare(get("h323-credit-amount")),
        currency = bare(get("h323-currency")),
        language = bare(get("h323-preferred-lang")),
        account = get("Chargeable-User-Identity"),
        source = get("Filter-Id"),
        routes = {},
    }
    if result == "2" then
        -- mod_xml_radius tells nothing of a Reject but that there was one.
        answer.reason = code and code ~= 0 and reasons.by_code(code) or reasons.by_name("rejected")
        return answer
    elseif result ~= "0" then
        answer.reason = reasons.by_name("silent")
        return answer
    elseif not code then
        answer.reason = reasons.by_name("lost-attributes")
        return answer
    elseif code ~= 0 then
        answer.reason = reasons.by_code(code)
        return answer
    end
    local seconds = channel.whole(get("Session-Timeout"))
    if limited and (not seconds or seconds > SECONDS_MAX) then
        answer.reason = reasons.by_name("lost-attributes")
        return answer
    elseif limited and seconds == 0 then
        answer.reason = reasons.by_code(4)
        return answer
    end
    answer.granted = true
    answer.seconds = seconds
    answer.routes, answer.strange_routes = routes.parse(bare(get("Cisco-AVPair")), routes_max)
    return answer
end

-- Was the server not to be understood? Then, and only then, some may pass.
function reply.failed(answer)
    local name = answer.reason and answer.reason.name
    return name == "silent" or name == "lost-attributes"
end

return reply
