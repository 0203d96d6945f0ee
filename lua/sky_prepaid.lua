-- A prepaid call: asks the server, dials the ways out in order, cuts in time. In the dialplan:
--
--   <action application="lua" data="sky/sky_prepaid.lua"/>
--
-- Arguments (name=value, any order, all optional): acct ext ani dest rg_in rg_out
-- mode=auth|query|card|did did announce=time|balance|both. docs/freeswitch.md has them all.

local folder = (argv[0] or ""):match("^(.*/)") or ""
local home = folder:sub(1, 1) == "/" and folder
    or freeswitch.getGlobalVariable("script_dir") .. "/" .. folder
package.path = home .. "?.lua;" .. home .. "lib/?.lua;" .. package.path

local arguments = require("arguments")
local call = require("call")
local channel = require("channel")
local inbound = require("inbound")
local prompts = require("prompts")
local reasons = require("reasons")
local settings = require("sky_settings")

-- Early media: nobody pays for what is announced.
local function announce(self, what, answer)
    if not what or not channel.ready(self.session) then
        return
    end
    self.session:preAnswer()
    if what == "balance" or what == "both" then
        prompts.balance(self, answer.balance, answer.currency)
    end
    if (what == "time" or what == "both") and answer.seconds then
        prompts.time(self, answer.credit_seconds or answer.seconds)
    end
end

local function wrong(self, text)
    channel.log("err", "sky_prepaid.lua: " .. text)
    channel.set(self.session, "sky_result", "invalid-argument")
    call.refuse(self, reasons.by_name("invalid-argument"))
end

local function main()
    session:setAutoHangup(false)
    local self = call.open(session, settings, folder)
    if not self or not channel.ready(session) then
        return
    end
    local given, problem = arguments.parse(argv)
    local request
    if given then
        request, problem = arguments.request(session, given)
    end
    if not request then
        return wrong(self, problem)
    end
    if given.mode == "did" then
        return inbound.run(self, request.did or request.called, request.ani)
    end
    if given.mode == "query" then
        -- The dialplan goes on, and looks at sky_result itself.
        return announce(self, given.announce, call.query(self, request))
    end
    local answer = call.authorize(self, request)
    if not answer.granted then
        return call.refuse(self, answer.reason)
    end
    announce(self, given.announce, answer)
    if #answer.routes == 0 then
        return call.refuse(self, reasons.by_name("no-dialable-route"))
    end
    call.hang_up(self, call.hunt(self, answer))
end

main()
