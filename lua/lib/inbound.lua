-- A call from outside to a number of ours: its owner pays, and the server says where it rings.

local call = require("call")
local channel = require("channel")
local check = require("check")
local reasons = require("reasons")

local inbound = {}

local function shorter(a, b)
    return math.min(a or b or 0, b or a or 0)
end

-- Forwards to a telephone outside: a second call, of the owner. Each attempt is a call of its own,
-- whose leg is accounted for itself (sky_leg), so that whatever becomes of the caller's channel
-- the leg's Stop settles it. The caller's own Stop stays about the call to our number.
local function attempt(self, first, number, ani, over)
    local session = self.session
    local called = channel.get(session, "sky_called")
    local answer = call.authorize(self, {
        account = first.account, ani = ani, called = number, rg_out = over,
    })
    channel.set(session, "sky_key", first.key)
    channel.set(session, "sky_called", called)
    if not answer.granted then
        return answer
    end
    local route = answer.routes[1]
    local both = {
        number = first.number,
        key = answer.key,
        seconds = shorter(answer.seconds, first.seconds),
        credit_seconds = shorter(answer.credit_seconds, first.credit_seconds),
        routes = { route and { name = "PSTN", dial = route.dial } },
    }
    local outcome = call.hunt(self, both, {
        sky_leg = "caller",
        sky_key_2 = first.key,
        sky_called = number,
        sky_account = first.account,
        sky_route = route and route.name,
    })
    if outcome.where == "here" and not outcome.answered then
        -- There may have been no leg at all that could have a Stop.
        outcome.route = ""
        call.finish(self, answer, outcome)
        channel.set(session, "sky_key", first.key)
        channel.set(session, "sky_called", called)
    end
    return answer, outcome
end

local function forward(self, first, number, ani)
    local answer, outcome = attempt(self, first, number, ani, nil)
    if not answer.granted then
        return answer
    end
    -- The other ways out, in the order of the first answer.
    for place = 2, #answer.routes do
        if outcome.answered or outcome.where ~= "here"
            or self.settings.stop_hunting[outcome.cause] then
            break
        end
        local next_answer, next_outcome =
            attempt(self, first, number, ani, answer.routes[place].name)
        outcome = next_outcome or outcome
        if not next_answer.granted then
            break
        end
    end
    return answer, outcome
end

-- `ani` may be nil: hidden.
function inbound.run(self, number, ani)
    local answer = call.authorize(self, { mode = "did", did = number, called = number, ani = ani })
    if not answer.granted then
        return call.refuse(self, reasons.to_stranger(answer.reason))
    end
    local route = answer.routes[1]
    if not route then
        return call.refuse(self, reasons.by_name("no-dialable-route"))
    elseif route.name == "PSTN" then
        if not check.called(route.dial) then
            return call.refuse(self, reasons.by_name("no-dialable-route"))
        end
        local forwarded, outcome = forward(self, answer, route.dial, ani)
        if not outcome then
            return call.refuse(self, reasons.to_stranger(forwarded.reason))
        end
        return call.hang_up(self, outcome)
    end
    call.hang_up(self, call.hunt(self, answer))
end

return inbound
