-- h323-return-code -> reason, SIP answer, cause. The numbers are those of docs/radius.md.

local reasons = {}

-- After the SIP status stands the phrase; causes are FreeSWITCH's names of Q.850's.
local BY_CODE = {
    [1] = { "invalid-account", 403, "CALL_REJECTED" },
    [2] = { "invalid-password", 403, "CALL_REJECTED" },
    [3] = { "in-use", 503, "SWITCH_CONGESTION" },
    [4] = { "no-credit", 402, "CALL_REJECTED" },
    [5] = { "expired", 403, "CALL_REJECTED" },
    [6] = { "credit-limit", 402, "CALL_REJECTED" },
    [7] = { "suspended", 403, "CALL_REJECTED" },
    [8] = { "no-route", 503, "NORMAL_TEMPORARY_FAILURE" },
    [9] = { "blocked", 403, "OUTGOING_CALL_BARRED" },
    [10] = { "retries", 403, "CALL_REJECTED" },
    [11] = { "invalid-argument", 484, "INVALID_NUMBER_FORMAT" },
    [12] = { "not-enough", 402, "CALL_REJECTED" },
    [17] = { "no-rate", 404, "UNALLOCATED_NUMBER" },
}
-- What has no code: the switch's own findings.
local BY_NAME = {
    silent = { "silent", 503, "NORMAL_TEMPORARY_FAILURE" },
    ["lost-attributes"] = { "lost-attributes", 503, "NORMAL_TEMPORARY_FAILURE" },
    rejected = { "rejected", 403, "CALL_REJECTED" },
    ["no-dialable-route"] = { "no-dialable-route", 503, "NORMAL_TEMPORARY_FAILURE" },
    ["invalid-argument"] = { "invalid-argument", 484, "INVALID_NUMBER_FORMAT" },
}
local PHRASES = {
    [402] = "Payment Required",
    [403] = "Forbidden",
    [404] = "Not Found",
    [480] = "Temporarily Unavailable",
    [484] = "Address Incomplete",
    [503] = "Service Unavailable",
}

local function reason_of(row)
    return { name = row[1], sip = row[2], phrase = PHRASES[row[2]], cause = row[3] }
end

-- A client may have codes of its own (client set --return-code): an unknown one is a refusal too.
function reasons.by_code(code)
    return reason_of(BY_CODE[code] or { "refused-" .. code, 403, "CALL_REJECTED" })
end

function reasons.by_name(name)
    return reason_of(assert(BY_NAME[name], name))
end

-- To a stranger who calls a number of ours nothing is told of its owner's money.
function reasons.to_stranger(reason)
    if reason.sip == 404 or reason.sip == 503 or reason.sip == 484 then
        return reason
    end
    return { name = reason.name, sip = 480, phrase = PHRASES[480], cause = "NO_USER_RESPONSE" }
end

return reasons
