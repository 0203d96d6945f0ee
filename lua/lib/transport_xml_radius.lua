-- Through mod_xml_radius (FreeSWITCH up to 1.10): its application radius_auth sends what
-- xml_radius.conf.xml takes from channel variables, and sets one for every attribute it gets.

local channel = require("channel")
local reply = require("reply")

local transport = {}

-- Each is a <param variable="…"/> of <auth_app>.
local VARIABLES = {
    phase = "sky_phase",
    key = "sky_key",
    account = "sky_account",
    ani = "sky_ani",
    called = "sky_called",
    ext = "sky_ext",
    rg_in = "sky_rg_in",
    rg_out = "sky_rg_out",
    mode = "sky_mode",
    did = "sky_did",
    elapsed = "sky_elapsed",
    bill_msec = "sky_end_msec",
    route = "sky_end_route",
}

function transport.ask(session, request)
    for name, variable in pairs(VARIABLES) do
        channel.set(session, variable, request[name])
    end
    -- FreeSWITCH writes into its log what a script sets: a PIN that is there already stays.
    if channel.get(session, "sky_pin") ~= request.pin then
        channel.set(session, "sky_pin", request.pin)
    end
    -- The module sets the result only once it has sent something.
    channel.set(session, "radius_auth_result", nil)
    for _, name in ipairs(reply.NAMES) do
        channel.set(session, name, nil)
    end
    session:execute("radius_auth", "")
    return channel.get(session, "radius_auth_result"), function(name)
        return channel.get(session, name)
    end
end

return transport
