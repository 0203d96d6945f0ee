-- A call from outside to a number of ours (DID). In the context of the carriers:
--
--   <action application="lua" data="sky/sky_did.lua"/>
--
-- Arguments: did (else the destination number), ani (else the caller's).

local folder = (argv[0] or ""):match("^(.*/)") or ""
local home = folder:sub(1, 1) == "/" and folder
    or freeswitch.getGlobalVariable("script_dir") .. "/" .. folder
package.path = home .. "?.lua;" .. home .. "lib/?.lua;" .. package.path

local arguments = require("arguments")
local call = require("call")
local channel = require("channel")
local check = require("check")
local inbound = require("inbound")
local reasons = require("reasons")
local settings = require("sky_settings")

local function main()
    session:setAutoHangup(false)
    local self = call.open(session, settings, folder)
    if not self or not channel.ready(session) then
        return
    end
    local given, problem = arguments.parse(argv)
    local number = given and (given.did or given.dest
        or check.called(channel.get(session, "destination_number")))
    if not number then
        channel.log("err", "sky_did.lua: " .. (problem or "no number was called"))
        return call.refuse(self, reasons.by_name("invalid-argument"))
    end
    local ani = given.ani or check.ani(channel.get(session, "caller_id_number"))
    inbound.run(self, number, ani)
end

main()
