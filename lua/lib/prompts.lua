-- What a caller hears and types. Names of sounds are in sky_settings.lua; where there is none, the
-- switch cannot play it, or with prompts = "tones", a tone stands in.

local channel = require("channel")

local prompts = {}

local SILENCE = "silence_stream://250"

local function tone(self, name)
    return self.settings.tones[name] or ""
end

function prompts.sound(self, name)
    local settings = self.settings
    local sound = settings.prompts == "files" and settings.sounds[name] or ""
    return sound ~= "" and sound or tone(self, name)
end

function prompts.play(self, name)
    local sound = prompts.sound(self, name)
    if sound == "" or not channel.ready(self.session) then
        return
    end
    local played = self.session:streamFile(sound)
    if played == 0 and tone(self, name) ~= "" and channel.ready(self.session) then
        self.session:streamFile(tone(self, name))
    end
end

local function ask(self, sound, least, most, pattern, variable)
    local card = self.settings.card
    return self.session:playAndGetDigits(
        least, most, 1, card.first_digit_ms, "#", sound ~= "" and sound or SILENCE, "",
        pattern, variable or "", card.digit_ms, "")
end

-- What was typed, or nil. `tries` 1: the callers count themselves, and look whether the caller is
-- still there in between.
function prompts.digits(self, name, least, most, pattern, variable)
    local session = self.session
    if not channel.ready(session) then
        return nil
    end
    local sound = prompts.sound(self, name)
    local typed = ask(self, sound, least, most, pattern, variable)
    -- A prompt that cannot be played ends the question at once, and leaves no result of reading.
    if (typed or "") == "" and not channel.get(session, "read_result")
        and sound ~= tone(self, name) and channel.ready(session) then
        typed = ask(self, tone(self, name), least, most, pattern, variable)
    end
    if typed == nil or #typed < least or #typed > most then
        return nil
    end
    return typed
end

local function language(self)
    return self.language or self.settings.languages[1]
end

-- Chosen by key, once, where there is a choice.
function prompts.choose_language(self)
    local languages = self.settings.languages
    if #languages > 1 then
        local key = prompts.digits(self, "choose_language", 1, 1, "^\\d$")
        for _, each in ipairs(languages) do
            if each.key == key then
                self.language = each
            end
        end
    end
    local chosen = language(self)
    channel.set(self.session, "default_language", chosen.code)
    if chosen.sound_prefix then
        channel.set(self.session, "sound_prefix", chosen.sound_prefix)
    end
end

local function say(self, text, kind)
    if self.settings.prompts == "files" and channel.ready(self.session) then
        self.session:say(text, language(self).say, kind, "pronounced", "")
    end
end

-- An amount as the server says it: "12.34". FreeSWITCH's `say` knows dollars and cents alone: any
-- other currency is said as two numbers.
function prompts.balance(self, amount, currency)
    local sign, whole, cents = (amount or ""):match("^(%-?)(%d+)%.(%d%d)$")
    if not whole then
        return
    end
    prompts.play(self, "balance_is")
    if currency == "USD" then
        say(self, sign .. whole .. "." .. cents, "currency")
    else
        say(self, sign .. whole, "number")
        say(self, cents, "number")
    end
end

-- Full minutes, and seconds where it is less than one.
function prompts.time(self, seconds)
    prompts.play(self, "time_is")
    local minutes = math.floor(seconds / 60)
    say(self, channel.text(minutes > 0 and minutes * 60 or seconds), "time_measurement")
end

return prompts
