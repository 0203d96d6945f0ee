-- A channel as the scripts see it: its variables, its clock, the switch's commands.

local channel = {}

-- nil for a variable that is not there or empty.
function channel.get(session, name)
    local value = session:getVariable(name)
    if value == nil or value == "" then
        return nil
    end
    return value
end

-- nil and "" take the variable away: that is what FreeSWITCH does with an empty value.
function channel.set(session, name, value)
    session:setVariable(name, channel.text(value))
end

-- A whole number of at most 16 digits, else nil. Today's microseconds have 16 and are well below
-- 2^53, where doubles stop being exact.
function channel.whole(text)
    if type(text) == "string" and #text <= 16 and text:find("^%d+$") then
        return tonumber(text)
    end
    return nil
end

-- Text of a value; numbers never in exponent form, whatever the version of Lua.
function channel.text(value)
    if value == nil then
        return ""
    elseif type(value) == "number" then
        return string.format("%.0f", value)
    end
    return tostring(value)
end

function channel.number(session, name)
    return channel.whole(channel.get(session, name))
end

-- Is this call still to be worked on by this script? Not when the caller has hung up, and not
-- when it has been transferred away.
function channel.ready(session)
    return session:ready() == true
end

local DOWN = { CS_HANGUP = true, CS_REPORTING = true, CS_DESTROY = true, CS_NONE = true }

-- "here", "gone" (hung up), "transferred" (on its way to the dialplan again), or "moved" (another
-- part of the switch has it, as after an attended transfer).
function channel.whereabouts(session)
    local state = session:getState()
    if DOWN[state] then
        return "gone"
    elseif state == "CS_EXECUTE" and channel.ready(session) then
        return "here"
    elseif state == "CS_ROUTING" or state == "CS_EXECUTE" then
        return "transferred"
    end
    return "moved"
end

function channel.api(command, argument)
    local said = freeswitch.API():execute(command, argument or "")
    return said or ""
end

-- Microseconds since 1970, as in the channels' own times.
function channel.now()
    return channel.whole(channel.api("strmicroepoch", "")) or os.time() * 1000000
end

function channel.exists(uuid)
    return channel.api("uuid_exists", uuid):sub(1, 4) == "true"
end

function channel.log(level, text)
    -- One line, whatever a peer has put into it.
    freeswitch.consoleLog(level, "sky: " .. text:gsub("%c", "?") .. "\n")
end

return channel
