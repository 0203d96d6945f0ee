-- What an operator may change. Everything else is in the server, where prices and limits are.
--
-- Where the server is, and the secret, are in sky_vars.xml, for both transports.
return {
    -- "xml_radius": FreeSWITCH 1.10 and older, through mod_xml_radius.
    -- "radius": FreeSWITCH 1.11 and later, which have no such module; needs luasocket.
    transport = "xml_radius",

    -- Who asks for the next slice of a call: "script", or "agent" where sky-aaa switch-agent runs.
    slices_by = "script",
    slice_margin_seconds = 10, -- how long before its end the next one is asked for

    routes_max = 8, -- ways out that are tried for one call
    ring_seconds = 60, -- for an answer, each way out
    progress_seconds = 12, -- for any sign of life; then the next way out is tried
    -- The called party has spoken: another carrier would ring the same telephone again.
    stop_hunting = {
        USER_BUSY = true,
        NO_ANSWER = true,
        ORIGINATOR_CANCEL = true,
    },
    -- A called leg that goes on without its caller (an attended transfer) has nobody who pays.
    orphan_seconds = 60,

    -- Who may call while the server is silent, or its answer has lost its attributes. Nobody else
    -- may. Such calls go over pass_route, the called number put after it; "" lets nobody pass. An
    -- emergency number that the server knows without a way out goes there too, when listed here.
    pass_numbers = {}, -- ["112"] = true, ["911"] = true
    pass_accounts = {}, -- ["fire-brigade"] = true
    pass_route = "", -- "sofia/gateway/emergency/"
    pass_seconds = 3600,

    -- transport "radius"
    radius = {
        timeout_seconds = 2, -- for one try
        tries = 2, -- of each server, the same octets again
    },

    card = {
        number_digits = { least = 4, most = 20 },
        -- most = 0: nobody is asked for a PIN, and an account's number alone is enough.
        pin_digits = { least = 1, most = 12 },
        called_digits = { least = 2, most = 24 },
        tries = 3, -- for number and PIN, for a destination
        calls_max = 20, -- on one call to the access number
        pinless = true, -- a registered caller's number is enough
        register_code = "*1", -- typed instead of a destination: register this caller's number
        first_digit_ms = 10000,
        digit_ms = 4000,
        hangup_key = "*", -- ends the call and not the caller's own one
        announce_balance = true,
        announce_time = true,
    },

    -- The key that is pressed for each language; one language: nobody is asked.
    languages = {
        { key = "1", code = "en", say = "en" },
    },

    -- "files": what `sounds` names. "tones": nothing but beeps, for a switch without sounds.
    prompts = "files",
    -- Anything that FreeSWITCH plays: a file of the language's folder, "phrase:macro:data",
    -- "tone_stream://…". Where there is none ("", or a file or phrase that FreeSWITCH does not
    -- have) a tone is heard instead.
    sounds = {
        choose_language = "",
        enter_card = "phrase:voicemail_enter_id:#",
        enter_pin = "phrase:voicemail_enter_pass:#",
        enter_called = "ivr/ivr-enter_destination_telephone_number.wav",
        wrong_card = "phrase:voicemail_fail_auth:#",
        wrong_called = "ivr/ivr-that_was_an_invalid_entry.wav",
        no_credit = "",
        not_available = "ivr/ivr-call_cannot_be_completed_as_dialed.wav",
        balance_is = "",
        time_is = "",
        registered = "",
        new_call = "",
        goodbye = "voicemail/vm-goodbye.wav",
    },
    tones = {
        choose_language = "tone_stream://%(150,100,500);%(150,100,600)",
        enter_card = "tone_stream://%(200,0,800)",
        enter_pin = "tone_stream://%(200,100,800);%(200,0,800)",
        enter_called = "tone_stream://%(1500,0,350,440)",
        wrong_card = "tone_stream://%(500,100,300);%(500,0,300)",
        wrong_called = "tone_stream://%(500,100,300);%(500,0,300)",
        no_credit = "tone_stream://%(330,50,950);%(330,50,1400);%(330,500,1800)",
        not_available = "tone_stream://%(330,50,950);%(330,50,1400);%(330,500,1800)",
        registered = "tone_stream://%(100,100,1000);%(100,0,1200)",
        new_call = "tone_stream://%(200,0,800)",
        goodbye = "tone_stream://%(500,500,480,620)",
    },
}
