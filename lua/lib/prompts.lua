-- What a caller hears and types. Names of sounds are in sky_settings.lua; where there is none, or
-- with prompts = "tones", a tone stands in.

local channel = require("channel")

local prompts = {}

local SILENCE = "silence_stream://250"

function prompts.sound(self, name)
    local settings = self.settings
    local sound = settings.prompts == "files" and settings.sounds[name] or ""
    if sound == "" then
        sound = settings.tones[name] or ""
    end
    return sound
end

function prompts.play(self, name)
    local sound = prompts.sound(self, name)
    if sound ~= "" and channel.ready(self.session) then
        self.session:streamFile(sound)
    end
end

-- What was typed, or nil. `tries` 1: the callers count themselves, and look whether the caller is
-- still there in between.
function prompts.digits(self, name, least, most, pattern, variable)
    local session, card = self.session, self.settings.card
    if not channel.ready(session) then
        return nil
    end
    local sound = prompts.sound(self, name)
    local typed = session:playAndGetDigits(
        least, most, 1, card.first_digit_ms, "#", sound ~= "" and sound or SILENCE, "",
        pattern, variable or "", card.digit_ms, "")
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
        local key = prompts.digits(self, "choose_language", 1, 1, "\\d")
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
