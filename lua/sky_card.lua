-- Calling cards: card number and PIN (or the registered number of the caller), balance, one call
-- after another. For the access number:
--
--   <action application="lua" data="sky/sky_card.lua"/>
--
-- Arguments: did (the access number; else the destination number), ani, announce=no. Every limit
-- and every sound is in sky_settings.lua.

local folder = (argv[0] or ""):match("^(.*/)") or ""
local home = folder:sub(1, 1) == "/" and folder
    or freeswitch.getGlobalVariable("script_dir") .. "/" .. folder
package.path = home .. "?.lua;" .. home .. "lib/?.lua;" .. package.path

local arguments = require("arguments")
local call = require("call")
local channel = require("channel")
local check = require("check")
local prompts = require("prompts")
local settings = require("sky_settings")

-- The wrong number or PIN: worth another try. Everything else is said once.
local WRONG = { [1] = true, [2] = true }
local NO_MONEY = { ["no-credit"] = true, ["credit-limit"] = true, ["not-enough"] = true }

local function here(self)
    return channel.whereabouts(self.session) == "here"
end

local function say_refused(self, reason)
    prompts.play(self, NO_MONEY[reason.name] and "no_credit" or "not_available")
end

local function question(self, card, called)
    return {
        mode = "card",
        -- Whose number is registered is found by it: a number of an account that comes without its
        -- PIN is believed, as from any switch that has looked itself.
        account = card.typed and card.number or nil,
        pin = card.pin,
        ani = self.ani,
        called = called,
        did = self.access_number,
    }
end

-- Who calls from a registered number need not type a card's.
local function pinless(self)
    if not settings.card.pinless or not self.ani then
        return nil
    end
    local card = {}
    local answer = call.query(self, question(self, card, nil))
    if not answer.granted or not check.account(answer.account) then
        return nil
    end
    card.number = answer.account
    return card, answer
end

-- Number and PIN, as often as may be. The PIN is put into its variable by FreeSWITCH itself: what
-- a script sets is written to the log.
local function typed(self)
    local numbers, pins = settings.card.number_digits, settings.card.pin_digits
    for _ = 1, settings.card.tries do
        local card = { typed = true }
        card.number = prompts.digits(self, "enter_card", numbers.least, numbers.most, "^\\d+$")
        if card.number and pins.most > 0 then
            channel.set(self.session, "sky_pin", nil)
            card.pin = prompts.digits(
                self, "enter_pin", pins.least, pins.most, "^\\d+$", "sky_pin")
            channel.set(self.session, "sky_pin_invalid", nil)
            card.pin = check.pin(card.pin)
        end
        if not here(self) then
            return nil
        end
        if card.number and (card.pin or pins.most == 0) then
            local answer = call.query(self, question(self, card, nil))
            if answer.granted then
                return card, answer
            elseif not WRONG[answer.code] then
                say_refused(self, answer.reason)
                return nil
            end
        end
        prompts.play(self, "wrong_card")
    end
    return nil
end

-- From now on this caller's number stands for the card: the server checks number and PIN again.
local function register(self, card)
    if not card.typed or not self.ani then
        return prompts.play(self, "wrong_called")
    end
    local request = question(self, card, nil)
    request.mode = "register"
    local answer = call.query(self, request)
    prompts.play(self, answer.granted and "registered" or "not_available")
end

-- A destination, or nil when none was typed often enough.
local function destination(self, card)
    local digits = settings.card.called_digits
    for _ = 1, settings.card.tries do
        local said = prompts.digits(
            self, "enter_called", digits.least, digits.most, "^[\\d*]+$")
        if not here(self) then
            return nil
        elseif said == settings.card.register_code then
            register(self, card)
        elseif said and said:find("^%d+$") then
            return said
        else
            prompts.play(self, "wrong_called")
        end
    end
    return nil
end

-- One call. False when the caller has gone, or when the server no longer answers.
local function place(self, card, called)
    local answer = call.authorize(self, question(self, card, called))
    if not answer.granted or #answer.routes == 0 then
        if answer.granted then
            call.finish(self, answer, { milliseconds = 0, route = "" })
            prompts.play(self, "not_available")
        else
            say_refused(self, answer.reason)
        end
        return here(self)
    end
    if settings.card.announce_time and self.announces then
        prompts.time(self, answer.credit_seconds or answer.seconds)
    end
    local outcome = call.hunt(self, answer)
    if outcome.where ~= "here" then
        return false
    end
    local settled = call.finish(self, answer, outcome)
    if not outcome.answered then
        prompts.play(self, "not_available")
    end
    return settled
end

local function calls(self, card)
    channel.set(self.session, "bridge_terminate_key", settings.card.hangup_key)
    for number = 1, settings.card.calls_max do
        if number > 1 then
            prompts.play(self, "new_call")
        end
        local called = destination(self, card)
        if not called or not place(self, card, called) then
            return
        end
    end
end

local function serve(self)
    self.session:answer()
    self.session:sleep(500)
    prompts.choose_language(self)
    local card, answer = pinless(self)
    if not card then
        card, answer = typed(self)
    end
    if card then
        if settings.card.announce_balance and self.announces then
            prompts.balance(self, answer.balance, answer.currency)
        end
        calls(self, card)
    end
end

local function main()
    session:setAutoHangup(false)
    local self = call.open(session, settings, folder)
    if not self or not channel.ready(session) then
        return
    end
    local given, problem = arguments.parse(argv)
    if not given then
        channel.log("err", "sky_card.lua: " .. problem)
        given = {}
    end
    self.access_number = given.did or check.called(channel.get(session, "destination_number"))
    self.ani = given.ani or check.ani(channel.get(session, "caller_id_number"))
    self.announces = given.announce ~= "no"
    -- The channel is answered by us: without a call it has no length that anybody pays.
    channel.set(session, "sky_bill_msec", 0)
    channel.set(session, "sensitive_dtmf", "true")
    local done, trouble = pcall(serve, self)
    -- A PIN is in no call record.
    channel.set(session, "sky_pin", nil)
    if not done then
        channel.log("err", "sky_card.lua: " .. tostring(trouble))
    end
    if here(self) then
        prompts.play(self, "goodbye")
        session:hangup("NORMAL_CLEARING")
    end
end

main()
