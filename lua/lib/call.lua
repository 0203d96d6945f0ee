-- One prepaid call after another on a channel: ask, dial, measure, settle.
--
-- Several calls on one channel (a calling card, a transferred caller) have a key each: the
-- channel's uuid for the first, uuid/2, uuid/3 … for later ones. `sky_key` is the one of the last,
-- and what the channel's Stop is about. A call that ends while its channel goes on is settled by
-- PHASE:end; the last one by the Stop, since nothing can be executed on a channel that is down.

local channel = require("channel")
local check = require("check")
local reasons = require("reasons")
local reply = require("reply")
local transport = require("transport")

local call = {}

local CALLS_MAX = 9999 -- on one channel; the server takes no higher number
local CAUSE = "^[%u%d_]+$"

-- `folder` is where the scripts are, as the dialplan names them ("sky/").
function call.open(session, settings, folder)
    local uuid = check.uuid(channel.get(session, "uuid"))
    if not uuid then
        return nil
    end
    -- Should it be the leg of a callee who was transferred: from now on it pays for itself.
    local self = { session = session, settings = settings, folder = folder, uuid = uuid }
    self.was_callee = channel.get(session, "sky_leg") == "callee"
    channel.set(session, "sky_leg", "caller")
    return self
end

local function key_of(self, number)
    return number < 2 and self.uuid or self.uuid .. "/" .. number
end

-- ------------------------------------------------------------------ questions

-- A call that has ended and that the server has not acknowledged yet: "N:milliseconds:route".
-- False while the server is silent: then there is no next call, and the Stop settles this one.
function call.settle(self)
    local session = self.session
    local open = channel.get(session, "sky_end")
    if not open then
        return true
    end
    local number, milliseconds, route = open:match("^(%d+):(%d+):([%w_%-]*)$")
    local request = {
        phase = "end:" .. number,
        key = key_of(self, tonumber(number)),
        account = check.account(channel.get(session, "sky_account")),
        ani = check.ani(channel.get(session, "sky_ani")),
        called = check.called(channel.get(session, "sky_called")),
        bill_msec = milliseconds,
        route = route ~= "" and route or nil,
    }
    local result, get = transport.ask(session, request, self.settings)
    local answer = reply.read(result, get, false, self.settings.routes_max)
    if answer.granted then
        channel.set(session, "sky_end", nil)
    else
        channel.log("err", "the end of " .. request.key .. " is not acknowledged")
    end
    return answer.granted
end

local function publish(session, answer)
    channel.set(session, "sky_result", answer.granted and "ok" or answer.reason.name)
    channel.set(session, "sky_code", answer.code)
    channel.set(session, "sky_account_source", answer.source)
    channel.set(session, "sky_max_sec", answer.seconds)
    channel.set(session, "sky_credit_sec", answer.credit_seconds)
    channel.set(session, "sky_balance", answer.balance)
    channel.set(session, "sky_currency", answer.currency)
    channel.set(session, "sky_route_count", #answer.routes)
    channel.set(session, "sky_route_n", nil)
    channel.set(session, "sky_route", nil)
    if check.account(answer.account) then
        channel.set(session, "sky_account", answer.account)
    end
end

-- Who is it, and what is there to spend? Opens nothing.
function call.query(self, request)
    request.phase = "authorize"
    request.key = self.uuid
    request.called = nil
    local result, get = transport.ask(self.session, request, self.settings)
    local answer = reply.read(result, get, false, self.settings.routes_max)
    publish(self.session, answer)
    return answer
end

-- Who may call unasked goes this way; nil for everybody else.
local function pass(self, request)
    local settings = self.settings
    local number = check.called((request.called or ""):match("^%+?(.*)$"))
    local listed = number and (settings.pass_numbers[number]
        or settings.pass_accounts[request.account or ""])
    if not listed or settings.pass_route == "" then
        return nil
    end
    return { { name = "PASS", dial = settings.pass_route .. number } }
end

-- When the server cannot be understood, some may call all the same. And it may know an emergency
-- number and leave it to the switch where that is dialled.
local function let_pass(self, request, answer)
    local ways = (reply.failed(answer) or answer.granted and #answer.routes == 0)
        and pass(self, request)
    if not ways then
        return answer
    elseif answer.granted then
        answer.routes = ways
        return answer
    end
    channel.log("warning", "the server is silent: " .. request.called .. " may pass unasked")
    return {
        granted = true,
        seconds = self.settings.pass_seconds,
        credit_seconds = self.settings.pass_seconds,
        account = request.account,
        routes = ways,
    }
end

-- May this call be made? The answer; its `number` is the call's on this channel.
function call.authorize(self, request)
    local session = self.session
    if not call.settle(self) then
        return { granted = false, reason = reasons.by_name("silent"), routes = {} }
    end
    local number = (channel.number(session, "sky_calls") or 0) + 1
    if number > CALLS_MAX then
        return { granted = false, reason = reasons.by_code(10), routes = {} }
    end
    channel.set(session, "sky_calls", number)
    -- Until it is answered there is no talk: without this a channel that was answered before (by
    -- an announcement, an earlier call) would be billed from then on.
    local answered_before = (channel.number(session, "answered_time") or 0) > 0
    channel.set(session, "sky_bill_msec", answered_before and 0 or nil)
    request.phase = "authorize:" .. number
    request.key = key_of(self, number)
    -- What the accounting of this call says, whoever does it.
    channel.set(session, "sky_key", request.key)
    channel.set(session, "sky_ani", request.ani)
    channel.set(session, "sky_called", request.called)
    local result, get = transport.ask(session, request, self.settings)
    local answer = reply.read(result, get, true, self.settings.routes_max)
    if (answer.strange_routes or 0) > 0 then
        channel.log("warning", answer.strange_routes .. " routes cannot be dialled safely")
    end
    answer = let_pass(self, request, answer)
    answer.number, answer.key = number, request.key
    if answer.granted and self.was_callee then
        -- The cut of the call that it was called in.
        channel.api("sched_del", self.uuid)
    end
    publish(session, answer)
    return answer
end

-- ------------------------------------------------------------------ dialling

-- The dial string of one way out. What it says in {} holds for the called leg alone; `given` stands
-- instead of what the caller's channel says.
--
-- The cut is armed there, at answer, by the switch itself: whatever happens to a script, it stands.
-- Every variable whose name begins with execute_on_answer is executed.
function call.dial_string(self, route, answer, given)
    local session, settings = self.session, self.settings
    local variables = {
        sky_leg = "callee",
        sky_key = answer.key,
        sky_account = channel.get(session, "sky_account"),
        sky_ani = channel.get(session, "sky_ani"),
        sky_called = channel.get(session, "sky_called"),
        originate_timeout = settings.ring_seconds,
        -- A leg of early media is joined at once, and the timeouts of ringing are over.
        bridge_answer_timeout = settings.ring_seconds,
        -- sky-aaa switch-agent asks for the next slice of a leg that has this.
        sky_agent_sec = settings.slices_by == "agent"
            and (answer.credit_seconds or 0) > answer.seconds and answer.seconds or nil,
    }
    for name, value in pairs(given or {}) do
        variables[name] = value
    end
    local list = {}
    for name, value in pairs(variables) do
        value = channel.text(value)
        if check.quotable(value) then
            list[#list + 1] = name .. "='" .. value .. "'"
        end
    end
    list[#list + 1] = ("execute_on_answer='sched_hangup +%.0f ALLOTTED_TIMEOUT'")
        :format(answer.seconds)
    local more = settings.slices_by == "script"
        and (answer.credit_seconds or 0) > answer.seconds and answer.seconds or 0
    list[#list + 1] = ("execute_on_answer_2='lua %ssky_answer.lua %s %.0f'")
        :format(self.folder, self.uuid, more)
    -- What holds for one leg's ringing counts between brackets alone.
    return "{" .. table.concat(list, ",") .. "}"
        .. ("[leg_timeout='%.0f',leg_progress_timeout='%.0f']")
            :format(settings.ring_seconds, settings.progress_seconds)
        .. route.dial
end

local function cause_in(session, name)
    local cause = channel.get(session, name)
    return cause and cause:find(CAUSE) and cause or nil
end

-- Why the called leg is over, or why there has been none. A leg of early media alone is bridged
-- too: then the bridge knows.
local function cause_of(session, answered)
    local bridged = cause_in(session, "bridge_hangup_cause")
    if answered then
        return bridged or "NORMAL_CLEARING"
    end
    local dialled = cause_in(session, "originate_disposition")
    local cause = dialled ~= "SUCCESS" and dialled or bridged or "NORMAL_TEMPORARY_FAILURE"
    -- FreeSWITCH's word for ringing that took too long; here it means that the money is spent.
    return cause == "ALLOTTED_TIMEOUT" and "NO_ANSWER" or cause
end

-- Milliseconds of talk since `from`, until the caller hung up or until now.
local function talk(session, from)
    local to = channel.number(session, "hungup_time") or 0
    if to == 0 then
        to = channel.now()
    end
    return math.max(0, math.floor((to - from) / 1000))
end

-- When the called leg has answered, in microseconds; nil: it has not. A caller's own channel is
-- answered with it, unless it was before; then the called leg's note (sky_answer.lua) counts.
local function answered_at(session, answered_before)
    if answered_before then
        return channel.number(session, "sky_answered_us")
    end
    local at = channel.number(session, "answered_time")
    return at and at > 0 and at or nil
end

local function try(self, route, answer, given)
    local session = self.session
    local answered_before = (channel.number(session, "answered_time") or 0) > 0
    channel.set(session, "sky_route", route.name)
    channel.set(session, "sky_answered_us", nil)
    channel.set(session, "sky_callee", nil)
    channel.set(session, "originate_disposition", nil)
    channel.set(session, "bridge_hangup_cause", nil)
    session:execute("bridge", call.dial_string(self, route, answer, given))
    local from = answered_at(session, answered_before)
    local outcome = {
        answered = from ~= nil,
        cause = cause_of(session, from ~= nil),
        route = from and route.name or "",
        milliseconds = from and talk(session, from) or 0,
        where = channel.whereabouts(session),
    }
    if outcome.answered or answered_before then
        channel.set(session, "sky_bill_msec", outcome.milliseconds)
    end
    if not outcome.answered then
        channel.set(session, "sky_route", nil)
    end
    return outcome
end

-- The called leg is over, and so are its tasks; or it goes on without its caller, and then not for
-- long. (What is scheduled in the name of a leg ends with it anyway.)
local function tidy(self, callee)
    channel.api("sched_del", callee)
    if channel.exists(callee) then
        channel.api("sched_hangup",
            ("+%.0f %s ALLOTTED_TIMEOUT"):format(self.settings.orphan_seconds, callee))
    end
end

-- What happens to the call when its channel goes on elsewhere.
local function leave(self, answer, outcome)
    local session = self.session
    local callee = check.uuid(channel.get(session, "sky_callee"))
    if outcome.where == "moved" then
        -- The channel's own length counts. With bypassed media the two talk on, and the called
        -- leg's cut stands; after an attended transfer that leg has gone, and this one is cut.
        channel.set(session, "sky_bill_msec", nil)
        if not callee or not channel.exists(callee) then
            local rest = math.max(1, answer.seconds - math.floor(outcome.milliseconds / 1000))
            channel.api("sched_hangup", ("+%.0f %s ALLOTTED_TIMEOUT"):format(rest, self.uuid))
        end
        return
    end
    if callee then
        tidy(self, callee)
    end
    if outcome.where == "transferred" then
        -- The dialplan comes next, and perhaps another call: this one is over.
        channel.set(session, "sky_end",
            ("%.0f:%.0f:%s"):format(answer.number, outcome.milliseconds, outcome.route))
        call.settle(self)
    end
end

-- Dials the ways out in order until one answers. The outcome: answered, cause, route,
-- milliseconds, where (channel.whereabouts). `given`: variables of the called leg.
function call.hunt(self, answer, given)
    local session, settings = self.session, self.settings
    local kept = {}
    for name, value in pairs({ continue_on_fail = "true", hangup_after_bridge = "false" }) do
        kept[name] = channel.get(session, name) or ""
        channel.set(session, name, value)
    end
    local outcome = {
        answered = false, route = "", milliseconds = 0,
        cause = reasons.by_name("no-dialable-route").cause,
        where = channel.whereabouts(session),
    }
    for number, route in ipairs(answer.routes) do
        if outcome.where ~= "here" then
            break
        end
        channel.set(session, "sky_route_n", number)
        outcome = try(self, route, answer, given)
        if outcome.answered or settings.stop_hunting[outcome.cause] then
            break
        end
    end
    for name, value in pairs(kept) do
        channel.set(session, name, value)
    end
    leave(self, answer, outcome)
    return outcome
end

-- The call is over and its channel goes on: it is settled. False while the server is silent.
function call.finish(self, answer, outcome)
    channel.set(self.session, "sky_end",
        ("%.0f:%.0f:%s"):format(answer.number, outcome.milliseconds, outcome.route))
    return call.settle(self)
end

-- ------------------------------------------------------------------ the caller hears

-- Refuses a caller: with the SIP status as long as nothing was answered, with the cause always.
function call.refuse(self, reason)
    local session = self.session
    if not channel.ready(session) then
        return
    end
    channel.log("notice", self.uuid .. " refused: " .. reason.name)
    if (channel.number(session, "answered_time") or 0) == 0 then
        session:execute("respond", reason.sip .. " " .. reason.phrase)
    end
    session:hangup(reason.cause)
end

function call.hang_up(self, outcome)
    if channel.whereabouts(self.session) == "here" then
        self.session:hangup(outcome.cause)
    end
end

return call
