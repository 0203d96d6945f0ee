-- Runs on the called leg when it answers (execute_on_answer_2): argv is the caller's uuid, and the
-- seconds granted when more can be had (else 0). Notes for the caller's script when it was, and
-- has the next slice asked for in time. The cut has been armed already, by the switch.

local folder = (argv[0] or ""):match("^(.*/)") or ""
local home = folder:sub(1, 1) == "/" and folder
    or freeswitch.getGlobalVariable("script_dir") .. "/" .. folder
package.path = home .. "?.lua;" .. home .. "lib/?.lua;" .. package.path

local channel = require("channel")
local check = require("check")
local slices = require("slices")

local function main()
    session:setAutoHangup(false)
    local caller = check.uuid(argv[1])
    local granted = channel.whole(argv[2])
    local callee = check.uuid(channel.get(session, "uuid"))
    if not caller or not granted or not callee then
        return channel.log("err", "sky_answer.lua: it is called by sky_prepaid.lua alone")
    end
    local at = channel.number(session, "answered_time") or 0
    if at == 0 then
        at = channel.now()
    end
    channel.api("uuid_setvar", caller .. " sky_callee " .. callee)
    channel.api("uuid_setvar", caller .. " sky_answered_us " .. channel.text(at))
    if granted > 0 then
        slices.arm(folder, require("sky_settings"), callee, 1, granted)
    end
end

main()
