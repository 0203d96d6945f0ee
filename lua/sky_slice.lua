-- Asks for the next slice of a running call (luarun, by the task that sky_answer.lua made): argv is
-- the called leg's uuid and the step's number. It works on that leg from a thread of its own, so
-- the media are not touched; when the leg has gone there is nothing to do.
--
-- Refused, or silence: the cut that stands is left standing. What was granted is talked out.

local folder = (argv[0] or ""):match("^(.*/)") or ""
local home = folder:sub(1, 1) == "/" and folder
    or freeswitch.getGlobalVariable("script_dir") .. "/" .. folder
package.path = home .. "?.lua;" .. home .. "lib/?.lua;" .. package.path

local channel = require("channel")
local check = require("check")
local reply = require("reply")
local slices = require("slices")
local transport = require("transport")

local KEY = "^[%x%-]+/?%d*$"

-- A call's keys: its own, and where it is forwarded from a number of ours also that one's.
local function keys(callee)
    local list = {}
    for _, name in ipairs({ "sky_key", "sky_key_2" }) do
        local key = channel.get(callee, name)
        if key and key:find(KEY) and #key <= check.TEXT_OCTETS_MAX then
            list[#list + 1] = key
        end
    end
    return list
end

-- Seconds from now that all of the keys may go on, and whether more can follow; nil: no more.
local function ask(callee, settings, step, elapsed)
    local seconds, more = nil, true
    for _, key in ipairs(keys(callee)) do
        local result, get = transport.ask(callee, {
            phase = ("reauth:%.0f"):format(step),
            key = key,
            account = check.account(channel.get(callee, "sky_account")),
            ani = check.ani(channel.get(callee, "sky_ani")),
            called = check.called(channel.get(callee, "sky_called")),
            elapsed = elapsed,
        }, settings)
        local answer = reply.read(result, get, true, settings.routes_max)
        if not answer.granted then
            channel.log("notice", key .. " gets no more time: " .. answer.reason.name)
            return nil
        end
        seconds = math.min(seconds or answer.seconds, answer.seconds)
        more = more and (answer.credit_seconds or 0) > answer.seconds
    end
    return seconds, more
end

local function extend(callee, uuid, settings, step)
    local at = channel.number(callee, "answered_time") or 0
    if at == 0 then
        return
    end
    local elapsed = math.max(0, math.floor((channel.now() - at) / 1000000))
    -- The transport puts its question into the variables that the called leg's Stop, should it be
    -- accounted by itself, is made of.
    local key = channel.get(callee, "sky_key")
    local seconds, more = ask(callee, settings, step, elapsed)
    channel.set(callee, "sky_key", key)
    if not seconds or not channel.ready(callee) then
        return
    end
    channel.api("sched_del", uuid)
    local said = channel.api("sched_hangup", ("+%.0f %s ALLOTTED_TIMEOUT"):format(seconds, uuid))
    if said:sub(1, 3) ~= "+OK" then
        -- Without a cut it would talk on for nothing.
        channel.api("uuid_kill", uuid .. " ALLOTTED_TIMEOUT")
    elseif more then
        slices.arm(folder, settings, uuid, step + 1, seconds)
    end
end

local function main()
    local uuid, step = check.uuid(argv[1]), channel.whole(argv[2])
    -- To Session() a uuid that is nobody's is a number to dial.
    if not uuid or not step or not channel.exists(uuid) then
        return
    end
    local callee = freeswitch.Session(uuid)
    if channel.ready(callee) then
        callee:setAutoHangup(false)
        extend(callee, uuid, require("sky_settings"), step)
    end
    -- Its lock is given back at once, so that the leg can end.
    callee:destroy()
end

main()
